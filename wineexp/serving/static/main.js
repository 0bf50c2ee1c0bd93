// The page: loads what the server serves, and updates the prediction whenever the form changes.

import { latestOnly, onKey, request, RequestError, showError } from "./api.js";
import { Batch } from "./batch.js";
import { showCard } from "./card.js";
import { byId, capitalized, displayName, element } from "./element.js";
import { Form, medianRow } from "./form.js";
import { pollMetrics } from "./live.js";
import { showMonitor } from "./monitor.js";
import { numberText, plainText, showChanges } from "./numbers.js";
import { labelText, showAttribution, showCounterfactual, showMissing, showPrediction, showStale } from "./prediction.js";
import { openTabs } from "./tabs.js";

// A prediction is explained once the values stayed the same for so long.
const EXPLANATION_DELAY_MILLISECONDS = 250;

// So often the server is asked to stay ready to explain; when idle for half a minute, it ends what explains.
const PREPARATION_INTERVAL_MILLISECONDS = 15000;

// Of a target of numbers so many samples have a button.
const MAX_NUMBER_SAMPLES = 5;

// The response of /model, and what shows it.
let served = null;
let form = null;
let batch = null;

const predict = latestOnly((values) => request("predict", values), (response, values, isNewest) => {
  checkModel(response.model);
  showPrediction(served.schema, response.predictions[0]);
  if (isNewest) explainSoon(values);
});

const explain = latestOnly((values) => request("explain", values), (response, values, isNewest) => {
  checkModel(response.model);
  if (!isNewest || !areEqual(values, form.values)) return;
  showAttribution(served.schema, response.attribution);
  if (response.changes) {
    showChanges(served.schema, response.changes);
    return;
  }
  showCounterfactual(served.schema, response.counterfactual, values, (changes) => {
    form.set(changes);
    onFormChange();
    byId("prediction").scrollIntoView({ block: "nearest", behavior: "smooth" });
  });
});

let explanationTimer = 0;
function explainSoon(values) {
  clearTimeout(explanationTimer);
  explanationTimer = setTimeout(() => {
    if (areEqual(values, form.values)) explain(values);
  }, EXPLANATION_DELAY_MILLISECONDS);
}

const areEqual = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function onFormChange() {
  for (const button of byId("samples").querySelectorAll("[aria-pressed=true]")) button.setAttribute("aria-pressed", "false");
  byId("true-label").hidden = true;
  update();
}

function update() {
  showStale();
  if (form.missing.length) showMissing(form.missing);
  else predict(form.values);
}

/** Show buttons that fill the form: with the medians, and with samples of each class. */
function showSamples() {
  const { schema } = served;
  const [noun, plural] = schema.noun;
  byId("samples").setAttribute("aria-label", `${capitalized(plural)} to start from`);
  const fillButton = (text, label, values, note) => {
    const button = element("button", { type: "button", "aria-pressed": "false", "aria-label": label }, text);
    button.addEventListener("click", () => {
      form.set(values);
      onFormChange();
      button.setAttribute("aria-pressed", "true");
      byId("true-label").hidden = !note;
      byId("true-label").textContent = note;
    });
    return button;
  };
  const groups = schema.numbers ? [samplesOfNumbers(schema, noun, fillButton)] : schema.classes.map((label) => {
    const name = labelText(schema, label);
    const samples = schema.samples.filter((sample) => sample.label === label);
    const buttons = samples.map((sample, index) => fillButton(
      String(index + 1), `${noun} ${index + 1} of ${name}`, sample.row, `In the data, this ${noun} is ${name}.`,
    ));
    return element("fieldset", {}, element("legend", {}, name), ...buttons);
  });
  byId("samples").replaceChildren(
    element("span", { className: "note" }, "Start from"),
    fillButton(`the median ${noun}`, `the median ${noun}`, medianRow(schema), ""),
    ...groups,
  );
}

/** Buttons of samples from low to high numbers, each named by its own. */
function samplesOfNumbers(schema, noun, fillButton) {
  const step = Math.max(1, Math.ceil(schema.samples.length / MAX_NUMBER_SAMPLES));
  const buttons = schema.samples.filter((_, index) => index % step === Math.floor(step / 2)).map(({ label, row }) => fillButton(
    plainText(schema, Number(label)), `a ${noun} with ${numberText(schema, Number(label))}`, row,
    `In the data, this ${noun} has ${numberText(schema, Number(label))}.`,
  ));
  return element("fieldset", {}, element("legend", {}, displayName(schema.column)), ...buttons);
}

/** When an export was made, and its note; nothing for a version of the registry. */
const exportText = (source) => source.kind !== "export" ? ""
  : ` ${source.note ?? ""} Exported on ${source.exported_at.slice(0, 10)}; this server follows no registry.`;

/** Show the served version; the form keeps the values of another version's form. */
function showServed(previousForm) {
  const { model, schema, params, metrics, source } = served;
  document.title = `${schema.target} · ${model.name} ${model.version}`;
  byId("title").replaceChildren(element("span", {}, schema.target), `, predicted by version ${model.version}`);
  const [score, low, high] = ["", "_low", "_high"].map((suffix) => metrics[`cv/${schema.metric}${suffix}`]);
  // Errors are in the target's unit, whose numbers may be large.
  const scoreDigits = (value) => (schema.numbers ? String(Number(value.toPrecision(4))) : value.toFixed(3));
  const interval = Number.isFinite(low) ? ` (95 % interval ${scoreDigits(low)} to ${scoreDigits(high)})` : "";
  const scoreText = Number.isFinite(score)
    ? `; ${schema.metric.replaceAll("_", " ")} ${scoreDigits(score)}${interval} in cross-validation` : "";
  const description = `${params.model ?? "a model"} on ${params.feature ?? "its"} features of ${schema.data} data`;
  byId("lineage").textContent = `The ${model.alias} of ${model.name}: ${description}${scoreText}.${exportText(source)}`;
  const [noun, plural] = schema.noun;
  byId("tab-predict").textContent = `One ${noun}`;
  byId("tab-batch").textContent = `Many ${plural}`;
  byId("probabilities").setAttribute("aria-label", schema.numbers ? "Among the training data" : "Probabilities");
  byId("by-class").textContent = schema.numbers ? "Predictions by size" : "Predictions by class";
  byId("run").replaceChildren("run ", element("code", {}, model.run_id));
  const values = previousForm ? previousForm.values : {};
  form = new Form(byId("form"), schema, onFormChange);
  form.set({ ...medianRow(schema), ...values });
  showSamples();
  showCard(served);
  batch = batch?.setServed(served) ?? new Batch(served, checkModel);
}

let reloading = false;

function isSameVersion(model, other) {
  return model.version === other.version && model.run_id === other.run_id;
}

/** Load the served version again where a response comes from another one. */
async function checkModel(model) {
  if (isSameVersion(model, served.model) || reloading) return;
  reloading = true;
  const previous = served.model;
  try {
    await load(form);
    // A response that was late may come from the version before.
    if (isSameVersion(served.model, previous)) return;
    showNotice(`Version ${served.model.version} of ${served.model.name} has replaced version ${previous.version}.`);
    update();
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    showError(error);
  } finally {
    reloading = false;
  }
}

function showNotice(sentence) {
  byId("notice").firstElementChild.textContent = sentence;
  byId("notice").hidden = false;
}
byId("notice").lastElementChild.addEventListener("click", () => { byId("notice").hidden = true; });

async function load(previousForm = null) {
  served = await request("model");
  showServed(previousForm);
}

const start = latestOnly(() => load(), update);

/** While the page can be seen, the first explanation after a pause shall not wait for a process to start. */
function prepareExplanations() {
  if (served && document.visibilityState === "visible") request("explain/prepare", {}).catch(() => {});
}
setInterval(prepareExplanations, PREPARATION_INTERVAL_MILLISECONDS);
document.addEventListener("visibilitychange", prepareExplanations);

onKey(() => (served ? update() : start({})));
window.addEventListener("online", () => { predict.retry(); start.retry(); });
openTabs();
showMonitor();
pollMetrics(async (model) => {
  if (served) await checkModel(model);
  return served?.schema ?? { classes: [] };
});
start({});
