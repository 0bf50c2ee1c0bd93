// Many rows: a CSV file, predicted in chunks, with the predictions in a table and in a file.

import { backoffSeconds, request, RequestError, showError } from "./api.js";
import { download, format, isMissing, isNumber, parse, simpleName } from "./csv.js";
import { byId, capitalized, displayName, element, enumerate, formatCount, formatPercent } from "./element.js";
import { numberText, plainText } from "./numbers.js";

const ROWS_PER_REQUEST = 500;
// The table shows so many rows; the file holds all.
const MAX_SHOWN_ROWS = 200;
const MAX_ATTEMPTS = 6;

const sleep = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });

export class Batch {
  constructor(served, onModel) {
    this.onModel = onModel;
    this.setServed(served);
    byId("file").addEventListener("change", (event) => this.predictFile(event.target.files[0]));
    byId("example").addEventListener("click", () => this.downloadExample());
    byId("download").addEventListener("click", () => this.downloadPredictions());
    byId("stop").addEventListener("click", () => { this.stopped = true; });
    const drop = byId("drop");
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      this.predictFile(event.dataTransfer.files[0]);
    });
  }

  /** Take the features of another version. */
  setServed(served) {
    this.served = served;
    this.features = served.schema.features;
    const [noun, plural] = served.schema.noun;
    byId("batch-title").textContent = `Many ${plural} at once`;
    byId("batch-noun").textContent = noun;
    byId("progress-bar").setAttribute("aria-label", `${capitalized(plural)} sent`);
    byId("columns").replaceChildren(...this.features.flatMap((feature, index) => [
      ...(index ? [", "] : []), element("code", {}, feature.name),
    ]));
    return this;
  }

  downloadExample() {
    const { target, samples } = this.served.schema;
    const names = this.features.map((feature) => feature.name);
    const rows = samples.map((sample) => [...names.map((name) => sample.row[name]), sample.label]);
    download(`${this.served.schema.noun[1]}.csv`, format([[...names, target], ...rows]));
  }

  async predictFile(file) {
    if (!file) return;
    const [header, ...rows] = parse(await file.text());
    this.header = (header ?? []).map((name) => name.trim());
    this.name = file.name.replace(/\.csv$/i, "");
    const columns = this.columns();
    const missing = this.features.map((feature) => feature.name).filter((name) => !columns.has(name));
    byId("results").hidden = true;
    byId("download").hidden = true;
    if (!rows.length || missing.length) {
      byId("summary").textContent = rows.length
        ? `${file.name} lacks ${missing.length === 1 ? "the column" : "the columns"} ${enumerate(missing)}.`
        : `${file.name} holds no rows below a line of names.`;
      return;
    }
    this.lines = rows.map((cells) => ({ cells, row: this.convert(cells, columns), prediction: null, version: null, faults: [] }));
    await this.predictLines();
    // An input without a value lets the same file be chosen again.
    byId("file").value = "";
  }

  /** The position of each feature's column in the file, by name, or by the name with spaces for underscores. */
  columns() {
    const names = this.features.map((feature) => feature.name);
    const simple = this.header.map(simpleName);
    const found = names.map((name) => [name, this.header.includes(name)
      ? this.header.indexOf(name)
      : names.filter((other) => simpleName(other) === simpleName(name)).length === 1 ? simple.indexOf(simpleName(name)) : -1]);
    return new Map(found.filter(([, position]) => position >= 0));
  }

  /** Cells as a row for the server, which says what is wrong with those that are not numbers. */
  convert(cells, columns) {
    return Object.fromEntries(this.features.map(({ name, kind, values }) => {
      const cell = (cells[columns.get(name)] ?? "").trim();
      if (isMissing(cell) && !(kind === "text" && cell in values)) return [name, null];
      return [name, kind === "number" && isNumber(cell) ? Number(cell) : cell];
    }));
  }

  async predictLines() {
    const total = this.lines.length, bar = byId("progress-bar");
    this.stopped = false;
    byId("progress").hidden = false;
    bar.max = total;
    bar.value = 0;
    try {
      for (let start = 0; start < total && !this.stopped; start += ROWS_PER_REQUEST) {
        await this.predictChunk(this.lines.slice(start, start + ROWS_PER_REQUEST));
        bar.value = Math.min(total, start + ROWS_PER_REQUEST);
        byId("summary").textContent = `${formatCount(bar.value)} of ${formatCount(total)} ${this.served.schema.noun[1]} sent …`;
      }
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      showError(error);
      this.stopped = true;
    } finally {
      byId("progress").hidden = true;
      this.showResults();
    }
  }

  /** Predict some lines. The server predicts all rows of a request or none, so those with faults are left out then. */
  async predictChunk(lines) {
    let remaining = lines;
    while (remaining.length && !this.stopped) {
      try {
        const { model, predictions } = await this.requestPredictions(remaining.map((line) => line.row));
        predictions.forEach((prediction, index) => {
          Object.assign(remaining[index], { prediction, version: model.version });
        });
        this.onModel(model);
        return;
      } catch (error) {
        const faults = (error.faults ?? []).filter((fault) => Number.isInteger(fault.row));
        if (!faults.length) throw error;
        for (const fault of faults) remaining[fault.row].faults.push(fault.detail.replace(/^row \d+[,:] /, ""));
        remaining = remaining.filter((line) => !line.faults.length);
      }
    }
  }

  /** Send rows, again where the server is busy or cannot be reached. */
  async requestPredictions(rows) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await request("predict", rows);
        if (attempt > 1) showError(null);
        return response;
      } catch (error) {
        const isFinal = !(error instanceof RequestError) || error.retrySeconds === null;
        if (isFinal || attempt === MAX_ATTEMPTS || this.stopped) throw error;
        error.retrySeconds = backoffSeconds(error, attempt);
        showError(error);
        await sleep(error.retrySeconds);
      }
    }
  }

  showResults() {
    byId("summary").textContent = this.summary();
    byId("download").hidden = false;
    byId("results").hidden = false;
    const plural = this.served.schema.noun[1];
    // Lines with faults come first, since they need attention.
    const hasFaults = (index) => this.lines[index].faults.length > 0;
    const order = [...this.lines.keys()].sort((a, b) => hasFaults(b) - hasFaults(a));
    const caption = this.lines.length > MAX_SHOWN_ROWS
      ? `The first ${MAX_SHOWN_ROWS} ${plural}, those with faults at the top; the file holds all.`
      : `All ${plural}, those with faults at the top.`;
    byId("results").firstElementChild.replaceChildren(
      element("caption", {}, caption),
      element("thead", {}, this.headings()),
      element("tbody", {}, ...order.slice(0, MAX_SHOWN_ROWS).map((index) => this.tableRow(this.lines[index], index))),
    );
  }

  summary() {
    const predicted = this.lines.filter((line) => line.prediction);
    const faulty = this.lines.filter((line) => line.faults.length).length;
    const outOfRange = predicted.filter((line) => line.prediction.out_of_range.length).length;
    const unsent = this.lines.length - predicted.length - faulty;
    const overview = this.served.schema.numbers ? this.rangeText(predicted) : this.countsText(predicted);
    return [
      `${formatCount(predicted.length)} of ${formatCount(this.lines.length)} ${this.served.schema.noun[1]} predicted${overview && `: ${overview}`}.`,
      faulty ? `${formatCount(faulty)} ${faulty === 1 ? "has" : "have"} faults, listed below.` : "",
      outOfRange ? `${formatCount(outOfRange)} ${outOfRange === 1 ? "has" : "have"} values outside the training range.` : "",
      unsent ? `${formatCount(unsent)} ${unsent === 1 ? "was" : "were"} not sent.` : "",
    ].filter(Boolean).join(" ");
  }

  /** How many lines got each class. */
  countsText(lines) {
    const counts = new Map();
    for (const { prediction } of lines) counts.set(prediction.class, (counts.get(prediction.class) ?? 0) + 1);
    return this.served.schema.classes.filter((label) => counts.has(label))
      .map((label) => `${formatCount(counts.get(label))} × ${label}`).join(", ");
  }

  /** The least, the mean and the greatest predicted number. */
  rangeText(lines) {
    if (!lines.length) return "";
    const numbers = lines.map(({ prediction }) => prediction.prediction);
    const [least, greatest] = numbers.reduce(([low, high], number) => [Math.min(low, number), Math.max(high, number)], [Infinity, -Infinity]);
    const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
    const { schema } = this.served;
    return `${plainText(schema, least)} to ${numberText(schema, greatest)}, on average ${numberText(schema, mean)}`;
  }

  /** What was predicted for a line, for the table; nothing where it was not. */
  predictedText(prediction) {
    if (!prediction) return null;
    return this.served.schema.numbers ? plainText(this.served.schema, prediction.prediction) : prediction.class;
  }

  headings() {
    const { target, classes, numbers, intervals } = this.served.schema;
    const heading = (text, className = "") => element("th", { scope: "col", className }, text);
    return element(
      "tr", {}, heading("row"), heading(numbers?.unit ? `${target}, ${numbers.unit}` : target, "text"),
      ...(intervals ? [heading("from"), heading("to")] : []), ...classes.map((label) => heading(label)), heading("remarks", "text"),
    );
  }

  tableRow({ prediction, faults }, index) {
    const { intervals } = this.served.schema;
    const warning = prediction?.out_of_range.length
      ? `outside the training range: ${enumerate(prediction.out_of_range.map(displayName))}` : "";
    return element(
      "tr", {},
      element("th", { scope: "row" }, formatCount(index + 1)),
      element("td", { className: "predicted" }, this.predictedText(prediction) ?? "–"),
      ...(intervals ? [0, 1] : []).map((end) =>
        element("td", {}, prediction ? plainText(this.served.schema, prediction.interval[end]) : "–")),
      ...this.served.schema.classes.map((label) =>
        element("td", {}, prediction ? formatPercent(prediction.probabilities[label]) : "–")),
      element("td", { className: "remarks" }, faults.join("; ") || warning),
    );
  }

  downloadPredictions() {
    const { target, classes } = this.served.schema;
    const probabilities = classes.map((label) => `probability ${label}`);
    const ends = this.served.schema.intervals ? ["low", "high"].map((end) => `${target} ${end}`) : [];
    const header = [...this.header, `predicted ${target}`, ...ends, ...probabilities, "out_of_range", "version", "faults"];
    const rows = this.lines.map(({ cells, prediction, version, faults }) => [
      ...this.header.map((_, index) => cells[index]),
      prediction?.class ?? prediction?.prediction, ...ends.map((_, index) => prediction?.interval[index]), ...classes.map((label) => prediction?.probabilities[label]),
      prediction?.out_of_range.join(" "), version, faults.join("; "),
    ]);
    download(`${this.name}-predictions.csv`, format([header, ...rows]));
  }
}
