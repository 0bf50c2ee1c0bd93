// The page: asks the server what it serves, and keeps form and answer together.

import { showAnswer, showChange, showLacking, showStale, showWhy, named } from "./answer.js";
import { Batch } from "./batch.js";
import { showCard } from "./card.js";
import { element, find } from "./element.js";
import { Form, middle } from "./form.js";
import { watchLive } from "./live.js";
import { ask, latest, onKey, show, Trouble } from "./server.js";
import { openTabs } from "./tabs.js";

// Milliseconds that the wine stands still before it is explained.
const STILL = 250;

let served = null;
let form = null;
let batch = null;

const predict = latest((values) => ask("predict", values), (reply, values, newest) => {
  noticeVersion(reply.model);
  showAnswer(served.schema, reply.predictions[0]);
  if (newest) explainSoon(values);
});

const explain = latest((values) => ask("explain", values), (reply, values, newest) => {
  noticeVersion(reply.model);
  if (!newest || !same(values, form.values)) return;
  showWhy(served.schema, reply.attribution);
  showChange(served.schema, reply.counterfactual, values, (change) => {
    form.set(change);
    changed();
    find("answer").scrollIntoView({ block: "nearest", behavior: "smooth" });
  });
});

let still = 0;
function explainSoon(values) {
  clearTimeout(still);
  still = setTimeout(() => { if (same(values, form.values)) explain(values); }, STILL);
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The wine is another one now. */
function changed() {
  for (const button of find("samples").querySelectorAll("[aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
  find("said").hidden = true;
  refresh();
}

function refresh() {
  showStale();
  if (form.lacking.length) showLacking(form.lacking);
  else predict(form.values);
}

/** Wines to start from: one in the middle, and the samples of each class. */
function showSamples() {
  const { schema } = served;
  const start = (button, values, said) => {
    form.set(values);
    changed();
    button.setAttribute("aria-pressed", "true");
    find("said").hidden = !said;
    find("said").textContent = said;
  };
  const chip = (text, label, values, said) => {
    const button = element("button", { type: "button", "aria-pressed": "false", "aria-label": label }, text);
    button.addEventListener("click", () => start(button, values, said));
    return button;
  };
  const groups = schema.classes.map((label) => {
    const wines = schema.samples.filter((sample) => sample.label === label);
    return element(
      "fieldset", {}, element("legend", {}, named(schema, label)),
      ...wines.map((sample, place) => chip(
        String(place + 1), `wine ${place + 1} of ${named(schema, label)}`, sample.row,
        `In the data, this wine is ${named(schema, label)}.`,
      )),
    );
  });
  find("samples").replaceChildren(
    element("span", { className: "note" }, "Start from"),
    chip("the median wine", "the median wine", middle(schema), ""),
    ...groups,
  );
}

/** Of an export, that it is one, and what its maker wanted to be said. */
const origin = (source) => source.kind !== "export" ? ""
  : ` ${source.note ?? ""} Exported on ${source.exported_at.slice(0, 10)}; this server follows no registry.`;

function showServed(before) {
  const { model, schema, params, metrics, source } = served;
  document.title = `${schema.target} · ${model.name} ${model.version}`;
  find("title").replaceChildren(element("span", {}, schema.target), `, as version ${model.version} sees it`);
  const metric = metrics[`holdout/${schema.metric}`];
  const figure = metric === undefined ? "" : `; ${schema.metric.replaceAll("_", " ")} ${metric.toFixed(3)} on wines that it had not seen`;
  const made = `${params.model ?? "a model"} on ${params.feature ?? "its"} features of ${schema.data} data`;
  find("lineage").textContent = `The ${model.alias} of ${model.name}: ${made}${figure}.${origin(source)}`;
  find("run").replaceChildren("run ", element("code", {}, model.run_id));
  const values = before ? before.values : {};
  form = new Form(find("form"), schema, changed);
  form.set({ ...middle(schema), ...values });
  showSamples();
  showCard(served);
  batch = batch?.follow(served) ?? new Batch(served, noticeVersion);
}

/** Another version may answer than the one that this page was made for. */
async function noticeVersion(model) {
  if (model.version === served.model.version && model.run_id === served.model.run_id) return;
  if (noticeVersion.asking) return;
  noticeVersion.asking = true;
  const old = served.model;
  try {
    await load(form);
    news(`Version ${served.model.version} of ${served.model.name} answers now; until a moment ago it was version ${old.version}.`);
    refresh();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    show(error);
  } finally {
    noticeVersion.asking = false;
  }
}

function news(sentence) {
  find("news").firstElementChild.textContent = sentence;
  find("news").hidden = false;
}
find("news").lastElementChild.addEventListener("click", () => { find("news").hidden = true; });

async function load(before = null) {
  served = await ask("model");
  showServed(before);
}

const begin = latest(() => load(), refresh);

onKey(() => (served ? refresh() : begin(null)));
window.addEventListener("online", () => { predict.again(); begin.again(); });
openTabs();
watchLive(async (model) => {
  if (served) await noticeVersion(model);
  return served?.schema ?? { classes: [] };
});
begin({});
