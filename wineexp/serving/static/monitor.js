// What the monitor and the live test last said of the served version.

import { request, RequestError } from "./api.js";
import { byId, capitalized, displayName, element, formatPercent } from "./element.js";

const NO_DRIFT = "The monitor has said nothing of this version yet: python -m wineexp.monitor, where predictions are logged.";
const NO_TEST = "No live test has said anything of this version yet: python -m wineexp.abtest.";

/** Ask the server whenever the tab is shown. */
export function showMonitor() {
  const panel = byId("monitor");
  const update = async () => {
    try {
      const { drift, live_test: test } = await request("monitor");
      showSentences(byId("drift"), drift, drift?.said, NO_DRIFT);
      showSentences(byId("live-test"), test, test?.lines, NO_TEST);
      showColumns(drift?.columns ?? []);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      byId("drift").replaceChildren(element("p", { className: "warning" }, error.message));
    }
  };
  panel.addEventListener("shown", update);
  if (!panel.hidden) update();
}

function showSentences(place, said, lines, otherwise) {
  if (!said) {
    place.replaceChildren(element("p", { className: "note" }, otherwise));
    return;
  }
  const [first, ...rest] = lines;
  const when = new Date(said.when).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  place.replaceChildren(
    element("p", { className: said.alarm ? "lead warning" : "lead" }, `${capitalized(first)}.`),
    ...rest.map((line) => element("p", {}, `${capitalized(line)}.`)),
    element("p", { className: "note" }, `Said on ${when}.`),
  );
}

function showColumns(columns) {
  const heads = ["Column", "Distribution", "Moved", "Out of range, or new", "Missing"];
  const rows = [...columns].sort((a, b) => b.shifted - a.shifted || b.moved - a.moved).map((column) =>
    element("tr", {},
      element("th", { scope: "row" }, displayName(column.name)),
      element("td", { className: "text" }, column.shifted ? "changed" : "as at training"),
      ...[column.moved, column.outside, column.missing].map((share) => element("td", {}, formatPercent(share)))));
  byId("drift-columns").hidden = rows.length === 0;
  byId("drift-columns").firstElementChild.replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map((head, place) => element("th", { scope: "col", className: place === 1 ? "text" : "" }, head)))),
    element("tbody", {}, ...rows));
}
