// The answer: the class and its probabilities, why, and what would change it.

import { unitOf } from "./form.js";
import { bar, element, find, listed, number, percent, redraw, signed, words } from "./element.js";

// Contributions that are shown each for itself; the rest are added up.
const SHOWN = 7;

/** What is asked, in the words of the schema: `cultivar 2`, `grade 6`, but `good` without `good`. */
export const named = (schema, label) => (/^[\d.-]+$/.test(label) ? `${schema.target} ${label}` : label);

export function showAnswer(schema, answer) {
  const label = answer.class;
  const most = answer.probabilities[label];
  find("answer").setAttribute("aria-busy", "false");
  find("asked").textContent = most === Math.max(...Object.values(answer.probabilities)) ? "Most likely" : "Decided for";
  find("label").textContent = label;
  const list = find("probabilities");
  list.className = "shares";
  redraw(list, Object.entries(answer.probabilities).map(([name, share]) =>
    bar(name, share, percent(share), name === label ? "first" : "")));
  // Of a model that gives prediction sets.
  const left = find("left");
  left.hidden = !answer.prediction_set;
  left.textContent = `Not ruled out: ${listed(answer.prediction_set ?? []) || "no class"}.`;
  const beyond = find("beyond");
  beyond.hidden = answer.out_of_range.length === 0;
  beyond.textContent = `Beyond what training saw in ${listed(answer.out_of_range.map(words))}: this is a guess.`;
  find("follow").textContent = `${named(schema, label)} · ${percent(most)}`;
  speak(`${named(schema, label)}, ${percent(most)}${answer.out_of_range.length ? `, beyond what training saw` : ""}`);
}

/** There is nothing to answer: fields are empty. */
export function showLacking(names) {
  find("answer").setAttribute("aria-busy", "true");
  find("asked").textContent = `Waiting for ${listed(names.map(words))}`;
  for (const id of ["why", "change"]) find(id).classList.add("stale");
}

// Read out once the wine stands still: a slider would else be talked over.
let speaking = 0;
function speak(sentence) {
  clearTimeout(speaking);
  speaking = setTimeout(() => { find("spoken").textContent = sentence; }, 700);
}

export function showWhy(schema, why) {
  find("why").classList.remove("stale");
  const label = named(schema, why.class);
  const share = why.unit === "probability";
  const told = (value) => (share ? percent(value) : signed(value));
  find("why-told").textContent = {
    "log-odds": `The log-odds of ${label} are ${told(why.base_value)} on average. These measurements make them ${told(why.output_value)}: each adds what its bar shows.`,
    score: `The score of ${label}, before scores become probabilities, is ${told(why.base_value)} on average. These measurements make it ${told(why.output_value)}: each adds what its bar shows.`,
    probability: `${why.background_rows} wines of the training data get ${label} with ${told(why.base_value)} on average. These measurements make it ${told(why.output_value)}: each adds what its bar shows (estimated).`,
  }[why.unit];
  const parts = Object.entries(why.contributions);
  const shown = parts.slice(0, SHOWN);
  const rest = parts.slice(SHOWN);
  if (rest.length) shown.push([null, rest.reduce((sum, [, part]) => sum + part, 0)]);
  const most = Math.max(...shown.map(([, part]) => Math.abs(part)), 1e-9);
  const list = find("parts");
  list.className = "parts";
  redraw(list, shown.map(([name, part]) => bar(
    name === null ? `${rest.length} others together` : words(name),
    Math.abs(part) / most / 2,
    share ? `${signed(100 * part, 1)} pp` : signed(part),
    part < 0 ? "down" : "up",
  )));
}

/** Say what would change the answer; `apply` is called with the new values when the reader wants them. */
export function showChange(schema, change, values, apply) {
  find("change").classList.remove("stale");
  const button = find("apply");
  button.hidden = change === null;
  if (change === null) {
    find("change-told").textContent = "No change of one measurement, or of two at once, within what training saw.";
    return;
  }
  const features = Object.fromEntries(schema.features.map((feature) => [feature.name, feature]));
  const clauses = Object.entries(change.values).map(([name, value]) => {
    const { kind, minimum, maximum } = features[name];
    const unit = unitOf(features[name]);
    const range = maximum - minimum;
    const written = (what) => (kind === "number" ? number(what, range / 4) : what);
    return [`${words(name)} were `, element("strong", {}, `${written(value)}${unit ? ` ${unit}` : ""}`), ` instead of ${written(values[name])}`];
  });
  find("change-told").replaceChildren(
    "If ", ...clauses.flatMap((clause, place) => (place ? [" and ", ...clause] : clause)),
    ", the answer would be ", element("strong", {}, named(schema, change.class)), ` (${percent(change.probability)}).`,
  );
  button.onclick = () => apply(change.values);
}

export function showStale() {
  // The first explanation waits for what explains to start.
  if (!find("parts").children.length) find("why-told").textContent = "Being worked out, which may take some seconds.";
  for (const id of ["why", "change"]) find(id).classList.add("stale");
  find("apply").hidden = true;
}
