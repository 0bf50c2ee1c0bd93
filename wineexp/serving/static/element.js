// Elements and words: what every part of the page is made of.

/** An element with properties and children; `aria-...`, `role`, `for` and the like are set as attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  assign(made, properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same in SVG. */
export function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function assign(made, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.includes("-")) made[name] = value;
    else made.setAttribute(name, value);
  }
}

export const find = (id) => document.getElementById(id);

/** A feature's name as words; a product's is made of its factors'. */
export const words = (name) => name.replaceAll(" ", " × ").replaceAll("_", " ");

export const percent = (share) => {
  const shown = 100 * share;
  return shown > 0 && shown < 0.1 ? "< 0.1 %" : `${shown.toFixed(shown > 99.9 && shown < 100 ? 2 : 1)} %`;
};

export const count = (number) => number.toLocaleString("en-GB");

/** A number to the digits that matter beside a range of this size. */
export function number(value, range) {
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(range || Math.abs(value) || 1))));
  return String(Number(value.toFixed(digits)));
}

export const signed = (value, digits = 2) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

/** Several words as a sentence has them. */
export const listed = (items, last = "and") =>
  items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} ${last} ${items.at(-1)}`;

/** A row of a bar chart: what it is, how long, and the figure. */
export function bar(name, share, figure, kind = "") {
  const filled = element("span");
  filled.style.width = `${100 * Math.min(1, share)}%`;
  return element(
    "div",
    { className: `row ${kind}`, role: "listitem" },
    element("span", { className: "name" }, name),
    element("span", { className: "bar", "aria-hidden": "true" }, filled),
    element("span", { className: "figure" }, figure),
  );
}

/** Lengthen or shorten the bars that are there, so that they glide; draw them anew where they are others. */
export function redraw(list, rows) {
  const same = list.children.length === rows.length &&
    rows.every((row, place) => row.firstChild.textContent === list.children[place].firstChild.textContent);
  if (!same) return list.replaceChildren(...rows);
  rows.forEach((row, place) => {
    const old = list.children[place];
    old.className = row.className;
    old.children[1].firstChild.style.width = row.children[1].firstChild.style.width;
    old.lastChild.textContent = row.lastChild.textContent;
  });
}
