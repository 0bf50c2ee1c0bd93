"""Prometheus metrics of a running server; every label has few values."""

import os
from collections import Counter as Counts
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from wineexp.monitoring.verdicts import ALARM_TESTS, DRIFT
from wineexp.serving.model.predictor import NumberPrediction, Prediction, Predictor

# From a single row, most of which take less than a millisecond, to a large request, which takes seconds.
BUCKETS_SECONDS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
)

# The environment variable by which prometheus_client knows the folder that the workers of a server share.
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class VerdictCollector(Collector):
    """Gauges of what the monitor last said of the served version; none where it has said nothing.

    They are made when the metrics are read, from a file, so that all workers have the same.

    Attributes
    ----------
    said : dict
        As `wineexp.monitoring.verdicts.of_version` gives it.
    """

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        drift = self.said.get(DRIFT)
        if drift is None:
            return
        labels = {"model": str(drift["model"]), "version": str(drift["version"])}
        values = {
            "alarm": ("Whether the monitor raised an alarm", float(drift["alarm"])),
            "shifted_columns": ("Columns and answers whose distribution has changed", len(drift["shifted"])),
            "rows": ("Rows that the monitor read", drift["rows"]),
            "labels": ("Rows with a truth that the monitor read", drift["labels"]),
            "last_run_timestamp_seconds": (
                "When the monitor last ran",
                datetime.fromisoformat(drift["when"]).timestamp(),
            ),
        }
        for name, (text, value) in values.items():
            gauge = GaugeMetricFamily(f"wineexp_monitor_{name}", text, labels=list(labels))
            gauge.add_metric(list(labels.values()), value)
            yield gauge
        evidence = GaugeMetricFamily(
            "wineexp_monitor_evidence", "Of the evidence that raises the alarm, by test", labels=[*labels, "test"]
        )
        for test in ALARM_TESTS:
            if drift.get(test):
                share = max(0.0, drift[test]["log_e_value"]) / drift[test]["needed"]
                evidence.add_metric([*labels.values(), test], share)
        yield evidence


class Metrics:
    """All metrics of one process.

    Attributes
    ----------
    verdicts : VerdictCollector
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self._registry = registry
        self.verdicts = VerdictCollector()
        registry.register(self.verdicts)
        # Children are looked up by their labels once: that takes longer than counting.
        self._request_children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._class_children: dict[str, Counter] = {}
        self.requests = Counter(
            "wineexp_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "wineexp_request_duration_seconds",
            "From a request's head to the end of its response",
            ["method", "route"],
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "wineexp_requests_in_flight", "Requests in progress", registry=registry, multiprocess_mode="livesum"
        )
        self.predictions = Counter("wineexp_predictions", "Rows predicted, by class", ["class"], registry=registry)
        # Made with the first version that predicts numbers, whose range it needs.
        self.numbers: Histogram | None = None
        self.rows_out_of_range = Counter(
            "wineexp_rows_out_of_range", "Rows with a value outside the training range", registry=registry
        )
        self.logged_rows = Counter("wineexp_log_rows", "Rows written to the prediction log", registry=registry)
        self.dropped_rows = Counter(
            "wineexp_log_dropped_rows", "Rows that the prediction log could not take, and lost", registry=registry
        )
        self.challenger_rows = Counter(
            "wineexp_challenger_rows",
            "Rows for a challenger in shadow, by whether it answered, failed, was absent (skipped) or slow (dropped)",
            ["outcome"],
            registry=registry,
        )
        self.log_up = Gauge(
            "wineexp_log_up",
            "Whether the prediction log can be written",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.model = Gauge(
            "wineexp_model_info",
            "1 for the version that is served",
            ["name", "alias", "version", "run_id"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.swaps = Counter("wineexp_model_swaps", "Versions that replaced another", registry=registry)
        self.refusals = Counter("wineexp_model_refusals", "Versions that failed a check", registry=registry)
        self.load_failures = Counter(
            "wineexp_model_load_failures", "Failed attempts to fetch and load a version", registry=registry
        )
        self.registry_up = Gauge(
            "wineexp_registry_up",
            "Whether the last poll reached the registry",
            registry=registry,
            multiprocess_mode="livemin",
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        children = self._request_children.get((method, route, status))
        if children is None:
            children = self.requests.labels(method, route, str(status)), self.seconds.labels(method, route)
            self._request_children[method, route, status] = children
        counter, histogram = children
        counter.inc()
        histogram.observe(seconds)

    def count_predictions(self, predictions: Sequence[Prediction] | Sequence[NumberPrediction]) -> None:
        """Count predictions by class or size, and rows with a value outside the training range."""
        self._count_out_of_range(sum([bool(prediction.out_of_range) for prediction in predictions]))
        if isinstance(predictions[0], NumberPrediction):
            self._count_numbers([each.prediction for each in predictions if isinstance(each, NumberPrediction)])
        else:
            self._count_labels([each.label for each in predictions if isinstance(each, Prediction)])

    def count_challenger(self, outcome: str, rows: int) -> None:
        """Count rows for a challenger by what became of them."""
        if rows:
            self.challenger_rows.labels(outcome).inc(rows)

    def count_answers(self, predictor: Predictor, answers: Sequence[Any], out_of_range: int) -> None:
        """Count what a version predicted, and a number of rows with a value outside the training range."""
        self._count_out_of_range(out_of_range)
        if predictor.schema.numbers:
            self._count_numbers(answers)
        else:
            self._count_labels([str(label) for label in answers])

    def _count_out_of_range(self, rows: int) -> None:
        if rows:
            self.rows_out_of_range.inc(rows)

    def _count_numbers(self, numbers: Sequence[float]) -> None:
        assert self.numbers is not None  # noqa: S101  for mypy: made when the version was set
        for number in numbers:
            self.numbers.observe(number)

    def _count_labels(self, labels: Sequence[str]) -> None:
        counts = Counts(labels) if len(labels) > 1 else {labels[0]: 1}
        for label, count in counts.items():
            counter = self._class_children.get(label)
            if counter is None:
                counter = self._class_children[label] = self.predictions.labels(label)
            counter.inc(count)

    def set_model(self, predictor: Predictor, previous: Predictor | None) -> None:
        """Set the version that is served, and count a swap where there was another before."""
        if predictor.schema.numbers and self.numbers is None:
            self.numbers = Histogram(
                "wineexp_prediction",
                "Predicted numbers; the buckets are of equal width over the first version's training rows",
                buckets=predictor.schema.numbers.histogram.edges,
                registry=self._registry,
            )
        if previous is not None:
            self.swaps.inc()
            if MULTIPROCESS_FOLDER in os.environ:
                # prometheus_client cannot remove what other processes read from the shared folder.
                self.model.labels(*_model_labels(previous)).set(0)
            else:
                self.model.remove(*_model_labels(previous))
        self.model.labels(*_model_labels(predictor)).set(1)

    def count_dropped_rows(self) -> int:
        """Rows that the prediction log could not take, summed over the workers."""
        samples = (sample for family in self._collected().collect() for sample in family.samples)
        return int(sum(sample.value for sample in samples if sample.name == "wineexp_log_dropped_rows_total"))

    def count_dropped_rows_here(self) -> int:
        """Of those, the ones of this process; asked for often, and therefore without a look at all other metrics."""
        samples = (sample for family in self.dropped_rows.collect() for sample in family.samples)
        return int(next(sample.value for sample in samples if sample.name.endswith("_total")))

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, summed over the workers, in the format that an Accept header asks for; and its media type."""
        encode, media_type = choose_encoder(accept)
        return encode(self._collected()), media_type

    def _collected(self) -> CollectorRegistry:
        """What all workers count."""
        if folder := os.environ.get(MULTIPROCESS_FOLDER):
            registry = CollectorRegistry()
            registry.register(self.verdicts)
            MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
            return registry
        return self._registry


def _model_labels(predictor: Predictor) -> tuple[str, str, str, str]:
    lineage = predictor.lineage
    return lineage.name, lineage.alias, str(lineage.version), lineage.run_id


def mark_dead(pid: int) -> None:
    """Remove a dead worker's gauges from the sum over all workers."""
    if MULTIPROCESS_FOLDER in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
