// What the page shows where a model predicts numbers instead of classes.

import { barRow, byId, displayName, element, formatCount, formatNumber, formatPercent, formatSigned, updateRows } from "./element.js";
import { binsOf, histogramOf, markBin, unitOf, valueText } from "./form.js";

// So many features have a line on what changing them would do.
const MAX_SHOWN_CHANGES = 5;

/** A number of the target with its unit: `523 kEUR`. */
export function numberText(schema, value) {
  const unit = unitOf(schema.numbers);
  return `${plainText(schema, value)}${unit ? ` ${unit}` : ""}`;
}

/** The same without the unit. */
export const plainText = (schema, value) => formatNumber(value, schema.numbers.maximum - schema.numbers.minimum);

/** Between which numbers the true one is, and how often: `Between 450 and 600 kEUR for 90 % of such houses.` */
export const intervalSentence = (schema, [low, high]) =>
  `Between ${plainText(schema, low)} and ${numberText(schema, high)} for ${100 * schema.intervals.coverage} % of such ${schema.noun[1]}.`;

/** A difference of such numbers, with its sign and unit. */
export function differenceText(schema, difference) {
  const unit = unitOf(schema.numbers);
  const digits = (plainText(schema, schema.numbers.maximum - schema.numbers.minimum).split(".")[1] ?? "").length;
  return `${formatSigned(difference, Math.max(digits, difference && Math.abs(difference) < 1 ? 2 : 0))}${unit ? ` ${unit}` : ""}`;
}

/** Where a prediction lies among the training rows: their histogram with its bin marked, and its range. */
export function showAmongTraining(schema, prediction) {
  const { numbers, noun } = schema;
  const bins = binsOf(numbers.histogram);
  markBin(bins, prediction);
  const below = shareBelow(numbers.histogram, prediction);
  const place = byId("probabilities");
  place.className = "among-training feature";
  place.replaceChildren(
    element("div", { className: "track", role: "listitem", "aria-label": `Higher than ${formatPercent(below)} of the training ${noun[1]}` }, histogramOf(bins)),
    element(
      "div", { className: "ends", "aria-hidden": "true" },
      element("span", {}, plainText(schema, numbers.minimum)),
      element("span", {}, plainText(schema, numbers.maximum)),
    ),
    element("p", { className: "note", "aria-hidden": "true" }, `Higher than ${formatPercent(below)} of the training ${noun[1]}.`),
  );
}

/** The share of training rows with less, interpolated within a bin. */
function shareBelow({ edges, counts }, value) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const below = counts.reduce((sum, count, index) => {
    const inBin = (value - edges[index]) / (edges[index + 1] - edges[index]);
    return sum + count * Math.min(1, Math.max(0, inBin));
  }, 0);
  return below / total;
}

/** Show how far each feature alone would move the prediction, in place of a change that flips a class. */
export function showChanges(schema, changes) {
  byId("counterfactual").classList.remove("stale");
  byId("apply").hidden = true;
  const features = Object.fromEntries(schema.features.map((feature) => [feature.name, feature]));
  const lines = changes.slice(0, MAX_SHOWN_CHANGES).map(({ feature, lowest, highest }) => element(
    "li", {},
    element("strong", {}, displayName(feature)), " alone: from ", element("strong", {}, plainText(schema, lowest.prediction)),
    ` (${valueText(features[feature], lowest.value)}) to `, element("strong", {}, numberText(schema, highest.prediction)),
    ` (${valueText(features[feature], highest.value)})`,
  ));
  byId("counterfactual-text").replaceChildren(...(lines.length
    ? [element("ul", { className: "changes" }, ...lines)]
    : ["No change of one feature within the training range."]));
}

/** How many rows got a number in each bin, from the samples of the server's metrics. */
export function showPredictedNumbers(samples, schema) {
  const bounds = new Map();
  for (const { name, labels, value } of samples) {
    if (name !== "wineexp_prediction_bucket") continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    bounds.set(bound, (bounds.get(bound) ?? 0) + value);
  }
  const sorted = [...bounds].sort(([a], [b]) => a - b);
  const total = Math.max(1, sorted.at(-1)?.[1] ?? 0);
  const rows = sorted.map(([high, count], index) => {
    const [low, countBelow] = index ? sorted[index - 1] : [-Infinity, 0];
    const name = low === -Infinity ? `up to ${plainText(schema, high)}`
      : high === Infinity ? `above ${plainText(schema, low)}` : `${plainText(schema, low)} to ${plainText(schema, high)}`;
    return [name, count - countBelow];
  });
  const list = byId("classes");
  list.className = "shares";
  updateRows(list, rows.filter(([, count]) => count > 0).map(([name, count]) =>
    barRow(name, count / total, `${formatPercent(count / total)} · ${formatCount(count)}`)));
}
