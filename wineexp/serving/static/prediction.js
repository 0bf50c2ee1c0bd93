// The prediction, its attribution, and the counterfactual.

import {
  barRow, byId, displayName, element, enumerate, formatNumber, formatPercent, formatSigned, updateRows,
} from "./element.js";
import { unitOf } from "./form.js";

// So many contributions have a bar of their own; the others share one.
const MAX_SHOWN_CONTRIBUTIONS = 7;
const ANNOUNCEMENT_DELAY_MILLISECONDS = 700;
const EXPLANATION_PARTS = ["attribution", "counterfactual"];

/** A class for display: `cultivar 2` and `grade 6`, but `good`. */
export const labelText = (schema, label) => (/^[\d.-]+$/.test(label) ? `${schema.target} ${label}` : label);

export function showPrediction(schema, prediction) {
  const label = prediction.class;
  const probability = prediction.probabilities[label];
  const isLikeliest = probability === Math.max(...Object.values(prediction.probabilities));
  byId("prediction").setAttribute("aria-busy", "false");
  byId("prediction-status").textContent = isLikeliest ? "Most likely" : "Predicted";
  byId("label").textContent = label;
  const list = byId("probabilities");
  list.className = "shares";
  updateRows(list, Object.entries(prediction.probabilities).map(([name, share]) =>
    barRow(name, share, formatPercent(share), name === label ? "first" : "")));
  const set = byId("prediction-set");
  set.hidden = !prediction.prediction_set;
  set.textContent = `Not ruled out: ${enumerate(prediction.prediction_set ?? []) || "no class"}.`;
  const features = prediction.out_of_range;
  const warning = byId("out-of-range");
  warning.hidden = features.length === 0;
  warning.textContent = `Outside the training range: ${enumerate(features.map(displayName))}. The prediction is a guess.`;
  const summary = `${labelText(schema, label)}, ${formatPercent(probability)}`;
  byId("summary-bar").textContent = summary;
  announce(features.length ? `${summary}, outside the training range` : summary);
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
  const label = labelText(schema, attribution.class);
  const base = formatPercent(attribution.base_value), output = formatPercent(attribution.output_value);
  const errors = Object.values(attribution.standard_errors ?? {});
  const precision = attribution.exact ? ""
    : `, estimated with a standard error of ${formatNumber(100 * Math.max(...errors), 1)} percentage points (pp) at most`;
  byId("attribution-text").textContent = `${attribution.background_rows} ${plural} that stand for the training data get ${label} with ${base} on average, this ${noun} with ${output}. A bar shows what a feature adds${precision}.`;
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
    `${formatSigned(100 * contribution, 1)} pp`,
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
    const { kind, minimum, maximum } = features[name];
    const unit = unitOf(features[name]);
    const format = (raw) => {
      if (raw === null) return "a missing value";
      return kind === "number" ? formatNumber(raw, (maximum - minimum) / 4) : raw;
    };
    const changed = element("strong", {}, `${format(value)}${unit ? ` ${unit}` : ""}`);
    return [`${displayName(name)} were `, changed, ` instead of ${format(values[name])}`];
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
