// Live metrics, read from the server's Prometheus endpoint.

import { request, RequestError } from "./api.js";
import { barRow, byId, element, formatCount, formatPercent, svgElement, updateRows } from "./element.js";
import { showPredictedNumbers } from "./numbers.js";

const INTERVAL_SECONDS = 3;
const MAX_POINTS = 60;

// Points of the chart: time in seconds, requests so far, requests a second.
const points = [];

/** Poll the metrics while the tab is visible; `onModel` gets the model that is served, and returns its schema. */
export function pollMetrics(onModel) {
  const panel = byId("live");
  let timer = 0;
  const poll = async () => {
    clearTimeout(timer);
    if (panel.hidden || document.hidden) return;
    try {
      const [text, readiness] = await Promise.all([request("metrics"), request("readyz")]);
      show(parseMetrics(text), readiness, await onModel(readiness.model));
      panel.classList.remove("stale");
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      byId("live-status").textContent = error.status === 401
        ? "The metrics require the server's administration key."
        : `${error.message} These are the last metrics received.`;
    }
    timer = setTimeout(poll, 1000 * INTERVAL_SECONDS);
  };
  panel.addEventListener("shown", poll);
  document.addEventListener("visibilitychange", poll);
  if (!panel.hidden) poll();
}

/** The samples in Prometheus' text format: name, labels, value. */
function parseMetrics(text) {
  return text.split("\n").filter((line) => line && !line.startsWith("#")).map((line) => {
    const [, name, labelText, value] = line.match(/^([^{ ]+)(?:\{(.*)\})? (\S+)/);
    const labels = Object.fromEntries([...(labelText ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)]
      .map(([, key, escaped]) => [key, escaped.replace(/\\(.)/g, (_, character) => (character === "n" ? "\n" : character))]));
    return { name, labels, value: value === "+Inf" ? Infinity : Number(value) };
  });
}

const sumOf = (samples, name, matches = () => true) => samples
  .filter((sample) => sample.name === name && matches(sample.labels)).reduce((sum, sample) => sum + sample.value, 0);

/** A quantile in seconds, interpolated within its bucket as Prometheus does; null where there are no requests. */
function quantile(buckets, share) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  let [low, countBelow] = [0, 0];
  for (const [high, count] of buckets) {
    if (count >= share * total) {
      return high === Infinity ? low : low + (high - low) * (share * total - countBelow) / (count - countBelow);
    }
    [low, countBelow] = [high, count];
  }
  return low;
}

/** Upper bounds and cumulative counts of the request durations. */
function durationBuckets(samples) {
  const counts = new Map();
  for (const { name, labels, value } of samples) {
    if (name !== "wineexp_request_duration_seconds_bucket" || !isPrediction(labels)) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/** Whether requests with these labels predict; the others are for this page, or for its metrics. */
const isPrediction = (labels) => labels.method === "POST" && /predict|invocations|infer/.test(labels.route);

const formatMilliseconds = (seconds) => (seconds === null ? "–" : `${Number((1000 * seconds).toPrecision(2))} ms`);

const formatTime = (iso) => new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

function show(samples, readiness, schema) {
  const requests = sumOf(samples, "wineexp_requests_total", isPrediction);
  const failed = sumOf(samples, "wineexp_requests_total", (labels) => isPrediction(labels) && labels.status >= "500");
  const rate = addPoint(requests);
  const buckets = durationBuckets(samples);
  const figures = [
    [`version ${readiness.model.version}`, `served since ${formatTime(readiness.loaded_at)}`],
    [formatCount(requests), "requests for predictions"],
    [`${rate.toFixed(1)} /s`, "at present"],
    [formatMilliseconds(quantile(buckets, 0.5)), "median duration"],
    [formatMilliseconds(quantile(buckets, 0.99)), "99th percentile of durations"],
    [formatCount(sumOf(samples, "wineexp_rows_out_of_range_total")), `${schema.noun[1]} outside the training range`],
    [formatCount(failed), "failed requests"],
    [
      formatCount(sumOf(samples, "wineexp_model_swaps_total")),
      `changes of version, and ${formatCount(sumOf(samples, "wineexp_model_refusals_total"))} refused`,
    ],
  ];
  byId("figures").replaceChildren(...figures.map(([figure, description]) =>
    element("div", {}, element("dt", {}, description), element("dd", {}, figure))));
  byId("live-status").textContent = status(readiness);
  showClasses(samples, schema);
  drawChart();
}

function status({ stale, registry, refused }) {
  return [
    `Since the server started; updated every ${INTERVAL_SECONDS} seconds.`,
    stale ? `The registry cannot be reached (${registry}), so the alias may name another version by now.` : "",
    refused ? `Version ${refused.version}, which the alias names, was refused: ${refused.why.join("; ")}` : "",
  ].filter(Boolean).join(" ");
}

/** Add a point to the chart; returns the requests a second since the last one. */
function addPoint(requests) {
  const time = performance.now() / 1000;
  const last = points.at(-1);
  const rate = last ? Math.max(0, requests - last.requests) / (time - last.time) : 0;
  points.push({ time, requests, rate });
  if (points.length > MAX_POINTS) points.shift();
  return rate;
}

function showClasses(samples, schema) {
  if (schema.numbers) {
    showPredictedNumbers(samples, schema);
    return;
  }
  const counts = new Map(schema.classes.map((label) => [label, 0]));
  for (const { name, labels, value } of samples) {
    if (name === "wineexp_predictions_total") counts.set(labels.class, value);
  }
  const total = Math.max(1, [...counts.values()].reduce((sum, count) => sum + count, 0));
  const list = byId("classes");
  list.className = "shares";
  updateRows(list, [...counts].map(([label, count]) =>
    barRow(label, count / total, `${formatPercent(count / total)} · ${formatCount(count)}`)));
}

function drawChart() {
  if (points.every((point) => point.rate === 0)) {
    byId("rate-chart").setAttribute("aria-label", "No request for a prediction since this page was opened");
    byId("rate-chart").replaceChildren(element("p", {}, "No request for a prediction since this page was opened."));
    return;
  }
  const highest = Math.max(1, ...points.map((point) => point.rate));
  const coordinates = points.map(({ rate }, index) =>
    `${100 * (MAX_POINTS - points.length + index) / (MAX_POINTS - 1)},${100 - 100 * rate / highest}`).join(" ");
  const line = svgElement("polyline", { points: coordinates });
  byId("rate-chart").replaceChildren(svgElement("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none" }, line));
  const label = `Now ${points.at(-1).rate.toFixed(1)} a second, at most ${highest.toFixed(1)} in the last minutes`;
  byId("rate-chart").setAttribute("aria-label", label);
}
