// DOM elements, and numbers and names as text.

/** An element with properties and children; names that are no property (`aria-...`, `role`) are set as attributes. */
export function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in created && !name.includes("-")) created[name] = value;
    else created.setAttribute(name, value);
  }
  created.append(...children.filter((child) => child !== null));
  return created;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes and children. */
export function svgElement(tag, attributes, ...children) {
  const created = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, value);
  created.append(...children);
  return created;
}

export const byId = (id) => document.getElementById(id);

/** A feature's name for display. */
export const displayName = (name) => name.replaceAll("_", " ");

export const formatPercent = (share) => {
  const percent = 100 * share;
  return percent > 0 && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(percent > 99.9 && percent < 100 ? 2 : 1)} %`;
};

export const formatCount = (number) => number.toLocaleString("en-GB");

/** A number with as many digits as matter within a range of this size. */
export function formatNumber(value, range) {
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(range || Math.abs(value) || 1))));
  return String(Number(value.toFixed(digits)));
}

const MS_PER_DAY = 86_400_000;

/** The days since 1970-01-01 that a date is to a model, as text in ISO 8601, in UTC; of a time of day its minutes. */
export function formatDate(days) {
  const text = new Date(Math.round(days * MS_PER_DAY)).toISOString();
  return Number.isInteger(days) ? text.slice(0, 10) : text.slice(0, 16);
}

/** The days of such a text. */
export const daysOf = (text) => Date.parse(text.includes("T") ? `${text}Z` : text) / MS_PER_DAY;

export const formatSigned = (value, digits = 2) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

/** A word with a capital first letter. */
export const capitalized = (word) => word.charAt(0).toUpperCase() + word.slice(1);

/** Items as an enumeration: `a, b and c`. */
export const enumerate = (items) =>
  items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`;

/** A row of a bar chart: name, bar, figure. */
export function barRow(name, share, figure, className = "") {
  const filled = element("span");
  filled.style.width = `${100 * Math.min(1, share)}%`;
  return element(
    "div",
    { className: `row ${className}`, role: "listitem" },
    element("span", { className: "name" }, name),
    element("span", { className: "bar", "aria-hidden": "true" }, filled),
    element("span", { className: "figure" }, figure),
  );
}

/** Update the rows of a bar chart. Where the names stay, the elements do, so that the change of width is animated. */
export function updateRows(list, rows) {
  const sameNames = list.children.length === rows.length &&
    rows.every((row, index) => row.firstChild.textContent === list.children[index].firstChild.textContent);
  if (!sameNames) return list.replaceChildren(...rows);
  rows.forEach((row, index) => {
    const current = list.children[index];
    current.className = row.className;
    current.children[1].firstChild.style.width = row.children[1].firstChild.style.width;
    current.lastChild.textContent = row.lastChild.textContent;
  });
}
