// Many wines: a CSV file, asked in chunks, its answers in a table and in a file.

import { count, element, find, listed, percent, words } from "./element.js";
import { download, format, parse } from "./csv.js";
import { ask, LONGEST, show, Trouble } from "./server.js";

// Rows of one request, and rows that the table shows; the file holds all.
const CHUNK = 500, SHOWN = 200;
// Attempts at a chunk while the server is busy or away.
const PATIENCE = 6;

const pause = (seconds) => new Promise((done) => { setTimeout(done, 1000 * seconds); });

export class Batch {
  constructor(served, noticeVersion) {
    this.noticeVersion = noticeVersion;
    this.follow(served);
    find("file").addEventListener("change", (event) => this.take(event.target.files[0]));
    find("example").addEventListener("click", () => this.example());
    find("download").addEventListener("click", () => this.save());
    find("stop").addEventListener("click", () => { this.stopped = true; });
    const drop = find("drop");
    drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      this.take(event.dataTransfer.files[0]);
    });
  }

  /** Another version's features are wanted from now on. */
  follow(served) {
    this.served = served;
    this.features = served.schema.features;
    find("columns").replaceChildren(...this.features.flatMap((feature, place) => [
      ...(place ? [", "] : []), element("code", {}, feature.name),
    ]));
    return this;
  }

  example() {
    const { target, samples } = this.served.schema;
    const names = this.features.map((feature) => feature.name);
    const rows = samples.map((sample) => [...names.map((name) => sample.row[name]), sample.label]);
    download("wines.csv", format([[...names, target], ...rows]));
  }

  async take(file) {
    if (!file) return;
    const [head, ...rows] = parse(await file.text());
    this.head = (head ?? []).map((name) => name.trim());
    this.name = file.name.replace(/\.csv$/i, "");
    const lacking = this.features.map((feature) => feature.name).filter((name) => !this.head.includes(name));
    find("answers").hidden = true;
    find("download").hidden = true;
    if (!rows.length || lacking.length) {
      const why = rows.length ? `${file.name} lacks ${lacking.length === 1 ? "the column" : "the columns"} ${listed(lacking)}.`
        : `${file.name} holds no rows below a line of names.`;
      find("summary").textContent = why;
      return;
    }
    this.lines = rows.map((cells) => ({ cells, row: this.read(cells), answer: null, version: null, faults: [] }));
    await this.run();
    // The same file can be chosen again.
    find("file").value = "";
  }

  /** A row as the server takes it. What is no number goes as it is, for the server to say what is wrong with it. */
  read(cells) {
    return Object.fromEntries(this.features.map((feature) => {
      const cell = (cells[this.head.indexOf(feature.name)] ?? "").trim();
      if (feature.kind === "text") return [feature.name, cell];
      return [feature.name, cell === "" ? null : Number.isFinite(Number(cell)) ? Number(cell) : cell];
    }));
  }

  async run() {
    this.stopped = false;
    find("progress").hidden = false;
    find("bar").max = this.lines.length;
    find("bar").value = 0;
    try {
      for (let start = 0; start < this.lines.length && !this.stopped; start += CHUNK) {
        await this.answerChunk(this.lines.slice(start, start + CHUNK));
        find("bar").value = Math.min(this.lines.length, start + CHUNK);
        find("summary").textContent = `${count(find("bar").value)} of ${count(this.lines.length)} wines asked …`;
      }
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      show(error);
      this.stopped = true;
    } finally {
      find("progress").hidden = true;
      this.show();
    }
  }

  /** Rows that the server finds fault with are set aside, and the others asked again: it answers all or none. */
  async answerChunk(lines) {
    let left = lines;
    while (left.length && !this.stopped) {
      try {
        const reply = await this.patiently(left.map((line) => line.row));
        reply.predictions.forEach((answer, place) => Object.assign(left[place], { answer, version: reply.model.version }));
        this.noticeVersion(reply.model);
        return;
      } catch (error) {
        const found = (error.faults ?? []).filter((fault) => Number.isInteger(fault.row));
        if (!found.length) throw error;
        for (const fault of found) left[fault.row].faults.push(fault.detail.replace(/^row \d+[,:] /, ""));
        left = left.filter((line) => !line.faults.length);
      }
    }
  }

  async patiently(rows) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const reply = await ask("predict", rows);
        if (attempt > 1) show(null);
        return reply;
      } catch (error) {
        if (!(error instanceof Trouble) || error.wait === null || attempt === PATIENCE || this.stopped) throw error;
        error.wait = Math.min(LONGEST, error.wait * 2 ** (attempt - 1));
        show(error);
        await pause(error.wait);
      }
    }
  }

  show() {
    const answered = this.lines.filter((line) => line.answer);
    const faulty = this.lines.filter((line) => line.faults.length);
    const outside = answered.filter((line) => line.answer.out_of_range.length);
    const tally = new Map();
    for (const { answer } of answered) tally.set(answer.class, (tally.get(answer.class) ?? 0) + 1);
    const told = this.served.schema.classes.filter((label) => tally.has(label)).map((label) => `${count(tally.get(label))} × ${label}`);
    const unasked = this.lines.length - answered.length - faulty.length;
    find("summary").textContent = [
      `${count(answered.length)} of ${count(this.lines.length)} wines answered${told.length ? `: ${told.join(", ")}` : ""}.`,
      faulty.length ? `${count(faulty.length)} cannot be: see what is wrong with them below.` : "",
      outside.length ? `${count(outside.length)} ${outside.length === 1 ? "has" : "have"} values beyond what training saw.` : "",
      unasked ? `${count(unasked)} ${unasked === 1 ? "was" : "were"} not asked.` : "",
    ].filter(Boolean).join(" ");
    find("download").hidden = false;
    find("answers").hidden = false;
    // Faults first: they are what there is to do.
    const order = [...this.lines.keys()].sort((a, b) => (this.lines[b].faults.length > 0) - (this.lines[a].faults.length > 0));
    find("answers").firstElementChild.replaceChildren(
      element("caption", {}, this.lines.length > SHOWN ? `The first ${SHOWN}, faults before all; the file holds every one.` : "Every wine, faults before all."),
      element("thead", {}, this.headings()),
      element("tbody", {}, ...order.slice(0, SHOWN).map((place) => this.tableRow(this.lines[place], place))),
    );
  }

  headings() {
    const { target, classes } = this.served.schema;
    const heading = (text, className = "") => element("th", { scope: "col", className }, text);
    return element("tr", {}, heading("row"), heading(target, "text"), ...classes.map((label) => heading(label)), heading("remarks", "text"));
  }

  tableRow({ answer, faults }, place) {
    const remarks = faults.length ? faults.join("; ")
      : answer?.out_of_range.length ? `beyond what training saw: ${listed(answer.out_of_range.map(words))}` : "";
    return element(
      "tr", {},
      element("th", { scope: "row" }, count(place + 1)),
      element("td", { className: "answered" }, answer?.class ?? "–"),
      ...this.served.schema.classes.map((label) => element("td", {}, answer ? percent(answer.probabilities[label]) : "–")),
      element("td", { className: "faults" }, remarks),
    );
  }

  save() {
    const { target, classes } = this.served.schema;
    const head = [...this.head, `predicted ${target}`, ...classes.map((label) => `probability ${label}`), "out_of_range", "version", "faults"];
    const rows = this.lines.map(({ cells, answer, version, faults }) => [
      ...this.head.map((_, place) => cells[place]),
      answer?.class, ...classes.map((label) => answer?.probabilities[label]), answer?.out_of_range.join(" "), version, faults.join("; "),
    ]);
    download(`${this.name}-answered.csv`, format([head, ...rows]));
  }
}
