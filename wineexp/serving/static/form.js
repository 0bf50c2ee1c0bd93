// The form: a control for each feature of the schema, over what training saw of it.

import { count, element, number, shape, words } from "./element.js";

/** Build the controls; `onChange` is called with nothing whenever a value changes. */
export class Form {
  constructor(form, schema, onChange) {
    this.controls = new Map();
    form.replaceChildren();
    form.onsubmit = (event) => event.preventDefault();
    for (const feature of schema.features) {
      const control = feature.kind === "number" ? new Measured(feature, onChange) : new Worded(feature, onChange);
      this.controls.set(feature.name, control);
      form.append(control.box);
    }
  }

  /** Values by name; null where a field holds no number. */
  get values() {
    return Object.fromEntries([...this.controls].map(([name, control]) => [name, control.value]));
  }

  /** Set some of the values; those of features that are not here are passed over. */
  set(values) {
    for (const [name, value] of Object.entries(values)) if (this.controls.has(name)) this.controls.get(name).value = value;
  }

  /** Names of the features whose field holds no number. */
  get lacking() {
    return [...this.controls].filter(([, control]) => control.value === null).map(([name]) => name);
  }
}

class Measured {
  constructor(feature, onChange) {
    this.feature = feature;
    const { name, minimum, maximum, histogram } = feature;
    const unit = unitOf(feature);
    this.range = maximum - minimum;
    const id = `field-${name}`;
    this.field = element("input", { type: "number", id, step: "any", required: true, "aria-describedby": `told-${name}` });
    this.slider = element("input", {
      type: "range", min: minimum, max: maximum, step: this.step, "aria-label": `${words(name)}, slider`, id: `slider-${name}`,
    });
    this.bins = bins(histogram);
    this.told = element("p", { className: "warning", id: `told-${name}`, hidden: true });
    this.box = element(
      "div",
      { className: "feature" },
      element(
        "div",
        { className: "head" },
        element("label", { htmlFor: id }, words(name), ...(unit ? [" ", element("span", { className: "unit" }, unit)] : [])),
        this.field,
      ),
      element("div", { className: "track" }, histogramOf(this.bins), this.slider),
      element(
        "div",
        { className: "ends", "aria-hidden": "true" },
        element("span", {}, number(minimum, this.range)),
        element("span", {}, number(maximum, this.range)),
      ),
      this.told,
    );
    this.field.addEventListener("input", () => { this.follow(); onChange(); });
    this.slider.addEventListener("input", () => { this.field.value = this.slider.value; this.follow(); onChange(); });
  }

  get step() {
    if (this.feature.dtype.startsWith("int")) return 1;
    return Number((10 ** Math.floor(Math.log10((this.range || 1) / 100))).toPrecision(1));
  }

  get value() {
    const { value } = this.field;
    return value.trim() === "" || !Number.isFinite(Number(value)) ? null : Number(value);
  }

  set value(value) {
    this.field.value = value;
    this.follow();
  }

  /** Bring slider, histogram and warning into line with the field. */
  follow() {
    const { value } = this;
    const { minimum, maximum } = this.feature;
    const unit = unitOf(this.feature);
    const outside = value !== null && (value < minimum || value > maximum);
    if (value !== null) this.slider.value = value;
    this.slider.setAttribute("aria-valuetext", `${value ?? "nothing"} ${unit}`.trim());
    this.bins.forEach(({ low, high, drawn }, place) => {
      const here = value !== null && value >= low && (value < high || (place === this.bins.length - 1 && value <= high));
      drawn.classList.toggle("here", here);
    });
    this.box.classList.toggle("outside", outside);
    this.box.classList.toggle("wrong", value === null);
    this.field.setAttribute("aria-invalid", value === null);
    this.told.hidden = value !== null && !outside;
    this.told.textContent = value === null
      ? "A number is wanted."
      : `Training saw ${number(minimum, this.range)} to ${number(maximum, this.range)}${unit && ` ${unit}`}.`;
  }
}

class Worded {
  constructor(feature, onChange) {
    this.inputs = Object.entries(feature.values).map(([value, rows]) => {
      const input = element("input", { type: "radio", name: `field-${feature.name}`, value });
      input.addEventListener("change", onChange);
      return { input, label: element("label", {}, input, value, element("span", {}, `${count(rows)} wines`)) };
    });
    this.box = element(
      "fieldset",
      { className: "feature" },
      element("legend", {}, words(feature.name)),
      element("div", { className: "choices" }, ...this.inputs.map(({ label }) => label)),
    );
  }

  get value() {
    return this.inputs.find(({ input }) => input.checked)?.input.value ?? null;
  }

  set value(value) {
    for (const { input } of this.inputs) input.checked = input.value === value;
  }
}

// A unit that only repeats the name, as that of pH does, says nothing.
export const unitOf = ({ name, unit }) => (unit === name ? "" : unit);

function bins({ edges, counts }) {
  const most = Math.max(...counts);
  return counts.map((rows, place) => {
    // A lone row is still seen.
    const height = rows ? Math.max(2.5, 100 * rows / most) : 0;
    const drawn = shape("rect", { x: 100 * place / counts.length + 0.4, width: 100 / counts.length - 0.8, y: 100 - height, height });
    return { low: edges[place], high: edges[place + 1], drawn };
  });
}

const histogramOf = (drawn) => shape(
  "svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ...drawn.map((bin) => bin.drawn),
);

/** A wine in the middle of everything that training saw. */
export const middle = (schema) => Object.fromEntries(schema.features.map((feature) => [
  feature.name,
  feature.kind === "number"
    ? Number(number(feature.median, feature.maximum - feature.minimum))
    : Object.entries(feature.values).reduce((best, next) => (next[1] > best[1] ? next : best))[0],
]));
