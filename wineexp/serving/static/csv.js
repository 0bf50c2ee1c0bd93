// CSV (RFC 4180), separated by commas, semicolons or tabs.

// The cells that stand for a missing value, as pandas reads them.
const MISSING_CELLS = new Set([
  "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
  "None", "n/a", "nan", "null",
]);

export const isMissing = (cell) => MISSING_CELLS.has(cell);

/** Whether a cell is a decimal number; JavaScript's `Number` takes 0x0E, which is none in a table. */
export const isNumber = (cell) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(cell) && Number.isFinite(Number(cell));

/** A column's name without spaces, as features are called. */
export const simpleName = (name) => name.trim().replaceAll(" ", "_");

/** The rows of a text, each an array of cells; empty lines are left out, and Excel's line that names the separator. */
export function parse(text) {
  const unmarked = text.replace(/^\uFEFF/, "");
  const named = unmarked.match(/^sep=(.)\r?\n/);
  const body = named ? unmarked.slice(named[0].length) : unmarked;
  const separator = named ? named[1] : separatorOf(body);
  const rows = [];
  let row = [], cell = "", quoted = false;
  const endRow = () => {
    row.push(cell);
    if (row.length > 1 || row[0].trim() !== "") rows.push(row);
    row = [];
    cell = "";
  };
  for (let index = 0; index < body.length; index += 1) {
    const character = body[index];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (body[index + 1] === '"') { cell += '"'; index += 1; } else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === separator) { row.push(cell); cell = ""; } else if (character === "\n") endRow();
    else if (character !== "\r" || body[index + 1] !== "\n") cell += character;
  }
  if (cell !== "" || row.length) endRow();
  return rows;
}

/** The separator that is most frequent in the first line. */
function separatorOf(body) {
  const head = body.split("\n", 1)[0];
  const counts = [",", ";", "\t"].map((separator) => [head.split(separator).length, separator]);
  return counts.reduce((best, next) => (next[0] > best[0] ? next : best))[1];
}

/** Rows as CSV. */
export const format = (rows) => rows.map((row) => row.map(quote).join(",")).join("\r\n") + "\r\n";

// Spreadsheets run a cell that begins with one of these signs as a formula, and some start programs: a text that does
// gets an apostrophe, which makes it a text to them.
const FORMULA = /^[=+\-@\t\r]/;

const quote = (cell) => {
  const raw = String(cell ?? "");
  const text = FORMULA.test(raw) && !isNumber(raw) ? `'${raw}` : raw;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Let the browser download a text as a file. */
export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
