// The form: a control for each feature of the schema, with the distribution of its training values.

import { daysOf, displayName, element, formatCount, formatDate, formatNumber, svgElement } from "./element.js";

// So many features are shown in the model's order; of more, the most important ones.
const MAX_UNFOLDED = 16, N_UNFOLDED = 12;

// So many values of a text have a button each; of more, they are suggested while one types.
const MAX_CHOICES = 12;

/** The controls of all features; `onChange` is called whenever a value changes. */
export class Form {
  constructor(form, schema, onChange) {
    this.controls = new Map();
    form.replaceChildren();
    form.onsubmit = (event) => event.preventDefault();
    const controls = schema.features.map((feature) => {
      const Control = feature.is_date ? DateControl
        : feature.kind === "number" ? NumberControl
        : Object.keys(feature.values).length > MAX_CHOICES ? TextControl : ChoiceControl;
      return [feature.name, new Control(feature, onChange, schema.noun)];
    });
    this.controls = new Map(controls);
    form.append(...boxesOf(this.controls, schema.ranking));
  }

  /** Values by name; null where a field holds no number. */
  get values() {
    return Object.fromEntries([...this.controls].map(([name, control]) => [name, control.value]));
  }

  /** Set some of the values; names of other features are ignored. */
  set(values) {
    for (const [name, value] of Object.entries(values)) if (this.controls.has(name)) this.controls.get(name).value = value;
  }

  /** Names of the features without a value that they always had in training; the others may be left empty. */
  get missing() {
    return [...this.controls].filter(([, { value, feature }]) => value === null && !feature.missing).map(([name]) => name);
  }
}

/** The boxes of the controls; of many, the most important ones first, and the others folded away. */
function boxesOf(controls, ranking) {
  const ranked = ranking.filter((name) => controls.has(name));
  if (controls.size <= MAX_UNFOLDED || ranked.length < controls.size) return [...controls.values()].map(({ box }) => box);
  const boxes = ranked.map((name) => controls.get(name).box);
  const folded = element("div", {}, ...boxes.slice(N_UNFOLDED));
  const summary = element("summary", {}, `${boxes.length - N_UNFOLDED} less important features`);
  return [...boxes.slice(0, N_UNFOLDED), element("details", {}, summary, folded)];
}

/** A field and a slider over a histogram. */
class NumberControl {
  constructor(feature, onChange) {
    this.feature = feature;
    const { name, minimum, maximum, histogram } = feature;
    const unit = this.unit;
    this.range = maximum - minimum;
    const id = `field-${name}`, warningId = `warning-${name}`;
    this.field = element("input", { type: this.type, id, step: "any", required: !feature.missing, "aria-describedby": warningId });
    this.slider = element("input", {
      type: "range", min: minimum, max: maximum, step: this.step, "aria-label": `${displayName(name)}, slider`, id: `slider-${name}`,
    });
    this.bins = binsOf(histogram);
    this.warning = element("p", { className: "warning", id: warningId, hidden: true });
    const unitText = unit ? [" ", element("span", { className: "unit" }, unit)] : [];
    this.box = element(
      "div",
      { className: "feature", title: feature.meaning ?? "" },
      element(
        "div",
        { className: "head" },
        element("label", { htmlFor: id }, displayName(name), ...unitText),
        this.field,
      ),
      element("div", { className: "track" }, histogramOf(this.bins), this.slider),
      element(
        "div",
        { className: "ends", "aria-hidden": "true" },
        element("span", {}, this.format(minimum)),
        element("span", {}, this.format(maximum)),
      ),
      this.warning,
    );
    this.field.addEventListener("input", () => { this.update(); onChange(); });
    this.slider.addEventListener("input", () => { this.value = Number(this.slider.value); onChange(); });
  }

  get type() {
    return "number";
  }

  get noun() {
    return "number";
  }

  get unit() {
    return unitOf(this.feature);
  }

  /** A number of the training range as text. */
  format(value) {
    return formatNumber(value, this.range);
  }

  /** A hundredth of the range, rounded down to a power of ten. */
  get step() {
    if (this.feature.dtype.startsWith("int")) return 1;
    return Number((10 ** Math.floor(Math.log10((this.range || 1) / 100))).toPrecision(1));
  }

  get value() {
    const { value } = this.field;
    return value.trim() === "" || !Number.isFinite(Number(value)) ? null : Number(value);
  }

  set value(value) {
    this.field.value = value ?? "";
    this.update();
  }

  /** Set slider, histogram and warning to the value of the field. */
  update() {
    const { value } = this;
    const { minimum, maximum } = this.feature;
    const { unit } = this;
    const outOfRange = value !== null && (value < minimum || value > maximum);
    if (value !== null) this.slider.value = value;
    this.slider.setAttribute("aria-valuetext", `${this.field.value || "no value"} ${unit}`.trim());
    markBin(this.bins, value);
    this.box.classList.toggle("out-of-range", outOfRange);
    const needed = value === null && !this.feature.missing;
    this.box.classList.toggle("invalid", needed);
    this.field.setAttribute("aria-invalid", needed);
    this.warning.hidden = value !== null && !outOfRange;
    this.warning.textContent = value === null
      ? needed ? `Enter a ${this.noun}.` : "Empty: a missing value."
      : `Training range: ${this.format(minimum)} to ${this.format(maximum)}${unit && ` ${unit}`}.`;
  }
}

/** The same for a date, which is a number of days to the model. */
class DateControl extends NumberControl {
  get type() {
    return this.step < 1 ? "datetime-local" : "date";
  }

  get noun() {
    return "date";
  }

  get unit() {
    return "";
  }

  /** A day, or a minute where some training row has a time of day. */
  get step() {
    const { minimum, maximum } = this.feature;
    return Number.isInteger(minimum) && Number.isInteger(maximum) ? 1 : 1 / 1440;
  }

  format(days) {
    return formatDate(days);
  }

  get value() {
    const { value } = this.field;
    return value === "" ? null : daysOf(value);
  }

  set value(days) {
    const text = days === null || days === undefined ? "" : formatDate(this.step < 1 ? days : Math.floor(days));
    this.field.value = this.step < 1 && text.length === 10 ? `${text}T00:00` : text;
    this.update();
  }
}

/** Radio buttons for the values of a text. */
class ChoiceControl {
  constructor(feature, onChange, [noun, plural]) {
    this.feature = feature;
    this.choices = Object.entries(feature.values).map(([value, rows]) => {
      const input = element("input", { type: "radio", name: `field-${feature.name}`, value });
      input.addEventListener("change", onChange);
      return { input, label: element("label", {}, input, value, element("span", {}, `${formatCount(rows)} ${rows === 1 ? noun : plural}`)) };
    });
    this.box = element(
      "fieldset",
      { className: "feature", title: feature.meaning ?? "" },
      element("legend", {}, displayName(feature.name)),
      element("div", { className: "choices" }, ...this.choices.map(({ label }) => label)),
    );
  }

  get value() {
    return this.choices.find(({ input }) => input.checked)?.input.value ?? null;
  }

  set value(value) {
    for (const { input } of this.choices) input.checked = input.value === value;
  }
}

/** A field for a text of many values, which suggests them, the most frequent ones first. */
class TextControl {
  constructor(feature, onChange, [noun, plural]) {
    this.feature = feature;
    const { name, values } = feature;
    const id = `field-${name}`, listId = `values-${name}`, warningId = `warning-${name}`;
    const ordered = Object.entries(values).sort(([, one], [, other]) => other - one);
    const options = ordered.map(([value, rows]) => element("option", { value }, `${formatCount(rows)} ${rows === 1 ? noun : plural}`));
    this.field = element("input", { type: "text", id, required: !feature.missing, "aria-describedby": warningId });
    // An input's `list` can be read alone.
    this.field.setAttribute("list", listId);
    this.warning = element("p", { className: "warning", id: warningId, hidden: true });
    this.box = element(
      "div",
      { className: "feature", title: feature.meaning ?? "" },
      element("div", { className: "head" }, element("label", { htmlFor: id }, displayName(name)), this.field),
      element("datalist", { id: listId }, ...options),
      this.warning,
    );
    this.field.addEventListener("input", () => { this.update(); onChange(); });
  }

  get value() {
    return this.field.value === "" ? null : this.field.value;
  }

  set value(value) {
    this.field.value = value ?? "";
    this.update();
  }

  /** Say that no value is given, or one that is in no training row. */
  update() {
    const { value, feature } = this;
    const isUnknown = value !== null && !Object.hasOwn(feature.values, value);
    const needed = value === null && !feature.missing;
    this.box.classList.toggle("out-of-range", isUnknown);
    this.box.classList.toggle("invalid", needed);
    this.field.setAttribute("aria-invalid", needed);
    this.warning.hidden = value !== null && !isUnknown;
    this.warning.textContent = isUnknown
      ? "In no training row: it counts as a missing value."
      : needed ? "Enter a value." : "Empty: a missing value.";
  }
}

/** A feature's unit; none where it repeats the name, as that of pH does, and of a date. */
export const unitOf = ({ name, unit, is_date: isDate }) => (unit === name || isDate ? "" : unit);

/** A value of a feature with its unit; numbers have the digits that tell values over a range apart. */
export function valueText(feature, value, range = feature.maximum - feature.minimum) {
  if (value === null) return "a missing value";
  if (feature.is_date) return formatDate(value);
  return feature.kind === "number" ? `${formatNumber(value, range)} ${unitOf(feature)}`.trim() : value;
}

// So that a bin with a single row is visible.
const MIN_BAR_HEIGHT = 2.5;

export function binsOf({ edges, counts }) {
  const largest = Math.max(...counts);
  const width = 100 / counts.length;
  return counts.map((rows, index) => {
    const height = rows ? Math.max(MIN_BAR_HEIGHT, 100 * rows / largest) : 0;
    const bar = svgElement("rect", { x: width * index + 0.4, width: width - 0.8, y: 100 - height, height });
    return { low: edges[index], high: edges[index + 1], bar };
  });
}

/** Mark the bin of a value, if it is in one; null marks none. */
export function markBin(bins, value) {
  bins.forEach(({ low, high, bar }, index) => {
    const isLast = index === bins.length - 1;
    bar.classList.toggle("current", value !== null && value >= low && (value < high || (isLast && value <= high)));
  });
}

export const histogramOf = (bins) => svgElement(
  "svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ...bins.map(({ bar }) => bar),
);

/** A row of medians, and of the most frequent texts. */
export const medianRow = (schema) => Object.fromEntries(schema.features.map((feature) => [
  feature.name,
  feature.kind === "number"
    ? Number(formatNumber(feature.median, feature.maximum - feature.minimum))
    : Object.entries(feature.values).reduce((best, next) => (next[1] > best[1] ? next : best))[0],
]));
