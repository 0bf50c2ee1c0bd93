// Requests to the server, their errors, and retries.

import { byId, element } from "./element.js";

export const MAX_RETRY_SECONDS = 10;
const DEFAULT_RETRY_SECONDS = 2;
const MAX_SHOWN_FAULTS = 5;

/** A request failed. `retrySeconds` is null where another attempt is of no use. */
export class RequestError extends Error {
  constructor(message, { status = 0, retrySeconds = null, faults = [] } = {}) {
    super(message);
    Object.assign(this, { status, retrySeconds, faults });
  }
}

let key = sessionStorage.getItem("key") ?? "";

/** GET a path, or POST a body to it as JSON; returns the decoded response. */
export async function request(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(key && { "X-API-Key": key }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new RequestError("The server cannot be reached.", { retrySeconds: DEFAULT_RETRY_SECONDS });
  }
  if (response.ok) return response.headers.get("Content-Type").includes("json") ? response.json() : response.text();
  const error = await errorOf(response);
  if (body !== undefined && [401, 403].includes(error.status)) byId("key-form").hidden = false;
  throw error;
}

async function errorOf(response) {
  const problem = await response.json().catch(() => ({}));
  const { status } = response;
  const message = {
    401: "The server requires an API key.",
    403: "The server does not accept this API key.",
    429: "The server is too busy.",
    503: "The server is not ready.",
  }[status] ?? (status < 500 ? problem.detail ?? problem.title : null) ?? "The server failed on this request.";
  const retryAfter = Number(response.headers.get("Retry-After")) || DEFAULT_RETRY_SECONDS;
  const retrySeconds = status === 429 || status >= 500 ? retryAfter : null;
  return new RequestError(message, { status, retrySeconds, faults: problem.errors ?? [] });
}

let keyCallback = () => {};

/** Call a function whenever a key was entered. The key is kept until the browser's tab is closed. */
export const onKey = (callback) => { keyCallback = callback; };

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key-field").value;
  sessionStorage.setItem("key", key);
  byId("key-form").hidden = true;
  keyCallback();
});

/** Show an error, and when the request is sent again; null hides it. */
export function showError(error) {
  const box = byId("error");
  if (error === null) {
    box.hidden = true;
    return;
  }
  const retry = error.retrySeconds === null ? "" : ` Trying again in ${Math.round(error.retrySeconds)} s.`;
  box.replaceChildren(
    element("p", {}, error.message + retry),
    ...error.faults.slice(0, MAX_SHOWN_FAULTS).map((fault) => element("p", {}, fault.detail)),
  );
  box.hidden = false;
}

/** The pause before the next attempt, doubled after each failure. */
export const backoffSeconds = (error, failures) => Math.min(MAX_RETRY_SECONDS, error.retrySeconds * 2 ** (failures - 1));

/**
 * A function that sends one request at a time. Of the inputs that come meanwhile only the newest is sent afterwards.
 * Errors are shown; where another attempt may help, the newest input is sent again.
 *
 * `onResponse` gets the response, its input, and whether it is the newest.
 */
export function latestOnly(send, onResponse) {
  let pending = null, busy = false, failures = 0, timer = 0;
  async function run() {
    clearTimeout(timer);
    timer = 0;
    busy = true;
    while (pending !== null) {
      const input = pending;
      pending = null;
      try {
        const response = await send(input);
        if (failures) showError(null);
        failures = 0;
        onResponse(response, input, pending === null);
      } catch (error) {
        if (!(error instanceof RequestError)) throw error;
        failures += 1;
        if (error.retrySeconds !== null) {
          error.retrySeconds = backoffSeconds(error, failures);
          pending ??= input;
          timer = setTimeout(run, 1000 * error.retrySeconds);
        }
        showError(error);
        break;
      }
    }
    busy = false;
  }
  const submit = (input) => {
    pending = input;
    // After an error, the timer sends the newest input.
    if (!busy && !timer) run();
  };
  /** Send a pending input now. */
  submit.retry = () => { if (!busy && pending !== null) run(); };
  return submit;
}
