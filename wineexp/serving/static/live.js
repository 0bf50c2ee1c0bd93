// Live figures, read off what the server tells Prometheus.

import { bar, count, element, find, percent, redraw, shape } from "./element.js";
import { ask, Trouble } from "./server.js";

// Seconds between two looks, and looks that the curve holds.
const EVERY = 3, KEPT = 60;

const looks = [];

/** Look every few seconds while the tab is open; `onModel` is told which model answers, and gives its schema. */
export function watchLive(onModel) {
  const panel = find("live");
  let timer = 0;
  const look = async () => {
    clearTimeout(timer);
    if (panel.hidden || document.hidden) return;
    try {
      const [text, ready] = await Promise.all([ask("metrics"), ask("readyz")]);
      take(read(text), ready, await onModel(ready.model));
      panel.classList.remove("stale");
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      find("live-told").textContent = error.status === 401 ? "These figures are for whoever holds the server's administration key."
        : `${error.message} The figures are those of the last look.`;
    }
    timer = setTimeout(look, 1000 * EVERY);
  };
  panel.addEventListener("shown", look);
  document.addEventListener("visibilitychange", look);
  if (!panel.hidden) look();
}

/** Samples of Prometheus' text format: name, labels, value. */
export function read(text) {
  return text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
    const [, name, inside, value] = line.match(/^([^{ ]+)(?:\{(.*)\})? (\S+)/);
    const labels = Object.fromEntries([...(inside ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
      .map(([, key, told]) => [key, told.replace(/\\(.)/g, (_, sign) => (sign === "n" ? "\n" : sign))]));
    return { name, labels, value: value === "+Inf" ? Infinity : Number(value) };
  });
}

const total = (samples, name, fits = () => true) => samples
  .filter((sample) => sample.name === name && fits(sample.labels)).reduce((sum, sample) => sum + sample.value, 0);

/** A quantile in seconds, straight between the bounds of its bucket as Prometheus reads it; null where none was. */
export function quantile(buckets, share) {
  const all = buckets.at(-1)?.[1] ?? 0;
  if (!all) return null;
  let [low, below] = [0, 0];
  for (const [bound, upTo] of buckets) {
    if (upTo >= share * all) return bound === Infinity ? low : low + (bound - low) * (share * all - below) / (upTo - below);
    [low, below] = [bound, upTo];
  }
  return low;
}

function bucketsOf(samples) {
  const sums = new Map();
  for (const { name, labels, value } of samples) {
    if (name !== "wineexp_request_duration_seconds_bucket" || !asks(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    sums.set(bound, (sums.get(bound) ?? 0) + value);
  }
  return [...sums].sort(([a], [b]) => a - b);
}

// What predicts; the page's own files and these figures are left out.
const asks = (labels) => labels.method === "POST" && /predict|invocations|infer/.test(labels.route);

const milliseconds = (seconds) => (seconds === null ? "–" : `${Number((1000 * seconds).toPrecision(2))} ms`);

function take(samples, ready, schema) {
  const requests = total(samples, "wineexp_requests_total", asks);
  const failed = total(samples, "wineexp_requests_total", (labels) => asks(labels) && labels.status >= "500");
  const now = performance.now() / 1000;
  const last = looks.at(-1);
  looks.push({ now, requests, rate: last ? Math.max(0, requests - last.requests) / (now - last.now) : 0 });
  if (looks.length > KEPT) looks.shift();
  const buckets = bucketsOf(samples);
  const classes = new Map(schema.classes.map((label) => [label, 0]));
  for (const { name, labels, value } of samples) if (name === "wineexp_predictions_total") classes.set(labels.class, value);
  const figures = [
    [`version ${ready.model.version}`, `answers, since ${new Date(ready.loaded_at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })}`],
    [count(requests), "predictions asked for"],
    [`${looks.at(-1).rate.toFixed(1)} /s`, `just now`],
    [milliseconds(quantile(buckets, 0.5)), "half of them took less"],
    [milliseconds(quantile(buckets, 0.99)), "99 of 100 took less"],
    [count(total(samples, "wineexp_rows_out_of_range_total")), "wines beyond what training saw"],
    [count(failed), "requests that failed here"],
    [count(total(samples, "wineexp_model_swaps_total")), "changes of version"],
    [count(total(samples, "wineexp_model_refusals_total")), "versions refused"],
  ];
  find("figures").replaceChildren(...figures.map(([figure, told]) => element("div", {}, element("dt", {}, told), element("dd", {}, figure))));
  find("live-told").textContent = [
    `Since the server started; looked at every ${EVERY} seconds.`,
    ready.stale ? `The registry cannot be asked (${ready.registry}): the alias may name another version by now.` : "",
    ready.refused ? `Version ${ready.refused.version}, which the alias names, was refused: ${ready.refused.why.join("; ")}` : "",
  ].filter(Boolean).join(" ");
  const rows = Math.max(1, [...classes.values()].reduce((sum, value) => sum + value, 0));
  const list = find("classes");
  list.className = "shares";
  redraw(list, [...classes].map(([label, value]) => bar(label, value / rows, `${percent(value / rows)} · ${count(value)}`)));
  curve();
}

function curve() {
  const most = Math.max(1, ...looks.map((look) => look.rate));
  const points = looks.map((look, place) => `${100 * (KEPT - looks.length + place) / (KEPT - 1)},${100 - 100 * look.rate / most}`).join(" ");
  find("spark").replaceChildren(shape("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none" }, shape("polyline", { points })));
  find("spark").setAttribute("aria-label", `Now ${looks.at(-1).rate.toFixed(1)} a second, at most ${most.toFixed(1)} in the last minutes`);
}
