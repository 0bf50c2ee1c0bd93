// The server, and its troubles in words.

import { element, find } from "./element.js";

// Seconds between two attempts, at most.
export const LONGEST = 10;

/** Why there is no answer. `wait`: seconds after which it is worth asking again; null where it is not. */
export class Trouble extends Error {
  constructor(told, { status = 0, wait = null, faults = [] } = {}) {
    super(told);
    Object.assign(this, { status, wait, faults });
  }
}

let key = sessionStorage.getItem("key") ?? "";

/** GET a path, or POST a body to it as JSON; gives what the server answers. */
export async function ask(path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server cannot be reached.", { wait: 2 });
  }
  if (answer.ok) return answer.headers.get("Content-Type").includes("json") ? answer.json() : answer.text();
  const trouble = await told(answer);
  if (body !== undefined && [401, 403].includes(trouble.status)) find("key").hidden = false;
  throw trouble;
}

async function told(answer) {
  const problem = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("Retry-After")) || 2;
  const { status } = answer;
  const say = {
    401: "The server wants an API key.",
    403: "The server does not take this API key.",
    429: "The server has too much to do just now.",
    503: "The server is not ready to answer.",
  }[status] ?? (status < 500 ? problem.detail ?? problem.title : null) ?? "The server failed on this request.";
  const faults = problem.errors ?? [];
  return new Trouble(say, { status, faults, wait: status === 429 || status >= 500 ? wait : null });
}

// The key stays in this tab, and goes with it.
let again = () => {};

find("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = find("key-field").value;
  sessionStorage.setItem("key", key);
  find("key").hidden = true;
  again();
});

/** Calls a function whenever a new key was given. */
export const onKey = (callback) => { again = callback; };

/** Show a trouble, with what will be done about it; null when it is over. */
export function show(trouble) {
  const box = find("trouble");
  if (trouble === null) {
    box.hidden = true;
    return;
  }
  const next = trouble.wait === null ? "" : ` Trying again in ${Math.round(trouble.wait)} s.`;
  box.replaceChildren(
    element("p", {}, trouble.message + next),
    ...trouble.faults.slice(0, 5).map((fault) => element("p", {}, fault.detail)),
  );
  box.hidden = false;
}

/**
 * Of many requests the latest: while one is on its way, only the newest of those that come is kept. A trouble that
 * may pass is shown, and the newest request made again after a while, ever longer.
 */
export function latest(work, onAnswer) {
  let waiting = null, busy = false, failures = 0, timer = 0;
  async function go() {
    clearTimeout(timer);
    timer = 0;
    busy = true;
    while (waiting !== null) {
      const asked = waiting;
      waiting = null;
      try {
        const answer = await work(asked);
        if (failures) show(null);
        failures = 0;
        onAnswer(answer, asked, waiting === null);
      } catch (error) {
        if (!(error instanceof Trouble)) throw error;
        failures += 1;
        if (error.wait !== null) {
          error.wait = Math.min(LONGEST, error.wait * 2 ** (failures - 1));
          waiting ??= asked;
          timer = setTimeout(go, 1000 * error.wait);
        }
        show(error);
        break;
      }
    }
    busy = false;
  }
  const request = (asked) => {
    waiting = asked;
    // While a trouble lasts, its own clock asks again.
    if (!busy && !timer) go();
  };
  request.again = () => { if (!busy && waiting !== null) go(); };
  return request;
}
