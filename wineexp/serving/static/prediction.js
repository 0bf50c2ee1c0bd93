// The prediction, its attribution, and the counterfactual.

import {
  barRow, byId, displayName, element, enumerate, formatNumber, formatPercent, formatSigned, updateRows,
} from "./element.js";
import { valueText } from "./form.js";
import { differenceText, intervalSentence, numberText, showAmongTraining } from "./numbers.js";

// So many contributions have a bar of their own; the others share one.
const MAX_SHOWN_CONTRIBUTIONS = 7;
const ANNOUNCEMENT_DELAY_MILLISECONDS = 700;
const EXPLANATION_PARTS = ["attribution", "counterfactual"];

/** A class for display: `cultivar 2` and `grade 6`, but `good`. */
export const labelText = (schema, label) => (/^[\d.-]+$/.test(label) ? `${schema.target} ${label}` : label);

export function showPrediction(schema, prediction) {
  byId("prediction").setAttribute("aria-busy", "false");
  const summary = schema.numbers ? showNumber(schema, prediction) : showClass(schema, prediction);
  const features = prediction.out_of_range;
  const warning = byId("out-of-range");
  warning.hidden = features.length === 0;
  warning.textContent = `Outside the training range: ${enumerate(features.map(displayName))}. The prediction is a guess.`;
  byId("summary-bar").textContent = summary;
  announce(features.length ? `${summary}, outside the training range` : summary);
}

/** Show a predicted number; gives it in short. */
function showNumber(schema, { prediction, interval }) {
  byId("prediction-status").textContent = `Predicted ${displayName(schema.column)}`;
  byId("label").textContent = numberText(schema, prediction);
  showAmongTraining(schema, prediction);
  const range = byId("prediction-set");
  range.hidden = !interval;
  if (interval) range.textContent = intervalSentence(schema, interval);
  return `${displayName(schema.column)} ${numberText(schema, prediction)}`;
}

/** Show a predicted class with the probabilities of all; gives it in short. */
function showClass(schema, prediction) {
  const label = prediction.class;
  const probability = prediction.probabilities[label];
  const isLikeliest = probability === Math.max(...Object.values(prediction.probabilities));
  byId("prediction-status").textContent = isLikeliest ? "Most likely" : "Predicted";
  byId("label").textContent = label;
  const list = byId("probabilities");
  list.className = "shares";
  updateRows(list, Object.entries(prediction.probabilities).map(([name, share]) =>
    barRow(name, share, formatPercent(share), name === label ? "first" : "")));
  const set = byId("prediction-set");
  set.hidden = !prediction.prediction_set;
  set.textContent = `Not ruled out: ${enumerate(prediction.prediction_set ?? []) || "no class"}.`;
  return `${labelText(schema, label)}, ${formatPercent(probability)}`;
}

/** Say which features lack a value. */
export function showMissing(names) {
  byId("prediction").setAttribute("aria-busy", "true");
  byId("prediction-status").textContent = `Missing: ${enumerate(names.map(displayName))}`;
  for (const id of EXPLANATION_PARTS) byId(id).classList.add("stale");
}

// A screen reader reads the prediction once the values stay the same; it would else interrupt itself at each move of a
// slider.
let announcementTimer = 0;
function announce(sentence) {
  clearTimeout(announcementTimer);
  announcementTimer = setTimeout(() => { byId("announcement").textContent = sentence; }, ANNOUNCEMENT_DELAY_MILLISECONDS);
}

export function showAttribution(schema, attribution) {
  byId("attribution").classList.remove("stale");
  const [noun, plural] = schema.noun;
  const [base, output] = [attribution.base_value, attribution.output_value].map((value) =>
    (schema.numbers ? numberText(schema, value) : `${labelText(schema, attribution.class)} with ${formatPercent(value)}`));
  const addedText = (added) => (schema.numbers ? differenceText(schema, added) : `${formatSigned(100 * added, 1)} pp`);
  const error = Math.max(...Object.values(attribution.standard_errors ?? {}));
  const errorText = schema.numbers ? numberText(schema, error) : `${formatNumber(100 * error, 1)} percentage points (pp)`;
  const precision = attribution.exact ? "" : `, estimated with a standard error of ${errorText} at most`;
  byId("attribution-text").textContent = `${attribution.background_rows} ${plural} that stand for the training data get ${base} on average, this ${noun} ${output}. A bar shows what a feature adds${precision}.`;
  const contributions = Object.entries(attribution.contributions);
  const shown = contributions.slice(0, MAX_SHOWN_CONTRIBUTIONS)
    .map(([name, contribution]) => [columnName(schema, name), contribution]);
  const others = contributions.slice(MAX_SHOWN_CONTRIBUTIONS);
  if (others.length) {
    shown.push([`${others.length} others together`, others.reduce((sum, [, contribution]) => sum + contribution, 0)]);
  }
  const largest = Math.max(...shown.map(([, contribution]) => Math.abs(contribution)), 1e-9);
  const list = byId("contributions");
  list.className = "contributions";
  updateRows(list, shown.map(([name, contribution]) => barRow(
    name,
    Math.abs(contribution) / largest / 2,
    addedText(contribution),
    contribution < 0 ? "down" : "up",
  )));
}

/** Show what would change the prediction; `apply` is called with the new values when the button is pressed. */
export function showCounterfactual(schema, counterfactual, values, apply) {
  byId("counterfactual").classList.remove("stale");
  const text = byId("counterfactual-text"), button = byId("apply");
  button.hidden = counterfactual === null;
  if (counterfactual === null) {
    text.textContent = "No change of one or two features within the training range.";
    return;
  }
  const features = Object.fromEntries(schema.features.map((feature) => [feature.name, feature]));
  const clauses = Object.entries(counterfactual.values).map(([name, value]) => {
    const feature = features[name], range = (feature.maximum - feature.minimum) / 4;
    const changed = element("strong", {}, valueText(feature, value, range));
    return [`${displayName(name)} were `, changed, ` instead of ${valueText(feature, values[name], range)}`];
  });
  text.replaceChildren(
    "If ", ...clauses.flatMap((clause, index) => (index ? [" and ", ...clause] : clause)),
    ", the prediction would be ", element("strong", {}, labelText(schema, counterfactual.class)),
    ` (${formatPercent(counterfactual.probability)}).`,
  );
  button.onclick = () => apply(counterfactual.values);
}

/** A column that a contribution is of: a feature, or a product, in whose name spaces separate the factors. */
const columnName = (schema, name) => (
  schema.features.some((feature) => feature.name === name) ? displayName(name) : displayName(name.replaceAll(" ", " × ")));

/** Mark the explanation as that of other values. */
export function showStale() {
  if (!byId("contributions").children.length) {
    byId("attribution-text").textContent = "The first explanation takes some seconds.";
  }
  for (const id of EXPLANATION_PARTS) byId(id).classList.add("stale");
  byId("apply").hidden = true;
}
