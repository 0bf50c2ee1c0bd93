// CSV as RFC 4180 has it, with commas, semicolons or tabs.

/** The rows of a text, each an array of cells; lines of nothing are left out. */
export function parse(text) {
  const body = text.replace(/^\uFEFF/, "");
  const separator = separatorOf(body);
  const rows = [];
  let row = [], cell = "", quoted = false;
  const endRow = () => {
    row.push(cell);
    if (row.length > 1 || row[0].trim() !== "") rows.push(row);
    row = [];
    cell = "";
  };
  for (let place = 0; place < body.length; place += 1) {
    const sign = body[place];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (body[place + 1] === '"') { cell += '"'; place += 1; } else quoted = false;
    } else if (sign === '"' && cell === "") quoted = true;
    else if (sign === separator) { row.push(cell); cell = ""; } else if (sign === "\n") endRow();
    else if (sign !== "\r" || body[place + 1] !== "\n") cell += sign;
  }
  if (cell !== "" || row.length) endRow();
  return rows;
}

function separatorOf(body) {
  const head = body.split("\n", 1)[0];
  const counts = [",", ";", "\t"].map((sign) => [head.split(sign).length, sign]);
  return counts.reduce((best, next) => (next[0] > best[0] ? next : best))[1];
}

/** Rows as a text. */
export const format = (rows) => rows.map((row) => row.map(quote).join(",")).join("\r\n") + "\r\n";

const quote = (cell) => {
  const text = String(cell ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** Hand a text to the reader as a file. */
export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
