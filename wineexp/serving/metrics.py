"""Prometheus metrics of a running server; every label has few values."""

import os
from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from wineexp.serving.model.predictor import Prediction, Predictor

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


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        self._registry = registry
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
        self.rows_out_of_range = Counter(
            "wineexp_rows_out_of_range", "Rows with a value outside the training range", registry=registry
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

    def count_predictions(self, predictions: Sequence[Prediction]) -> None:
        """Count predictions by class, and rows with a value outside the training range."""
        labels = [prediction.label for prediction in predictions]
        self.count_labels(labels, sum([bool(prediction.out_of_range) for prediction in predictions]))

    def count_labels(self, labels: Sequence[str], out_of_range: int) -> None:
        """Count predicted labels, and a number of rows with a value outside the training range."""
        counts = Counts(labels) if len(labels) > 1 else {labels[0]: 1}
        for label, count in counts.items():
            counter = self._class_children.get(label)
            if counter is None:
                counter = self._class_children[label] = self.predictions.labels(label)
            counter.inc(count)
        if out_of_range:
            self.rows_out_of_range.inc(out_of_range)

    def set_model(self, predictor: Predictor, previous: Predictor | None) -> None:
        """Set the version that is served, and count a swap where there was another before."""
        if previous is not None:
            self.swaps.inc()
            if MULTIPROCESS_FOLDER in os.environ:
                # prometheus_client cannot remove what other processes read from the shared folder.
                self.model.labels(*_model_labels(previous)).set(0)
            else:
                self.model.remove(*_model_labels(previous))
        self.model.labels(*_model_labels(predictor)).set(1)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, summed over the workers, in the format that an Accept header asks for; and its media type."""
        encode, media_type = choose_encoder(accept)
        registry = self._registry
        if folder := os.environ.get(MULTIPROCESS_FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        return encode(registry), media_type


def _model_labels(predictor: Predictor) -> tuple[str, str, str, str]:
    lineage = predictor.lineage
    return lineage.name, lineage.alias, str(lineage.version), lineage.run_id


def mark_dead(pid: int) -> None:
    """Remove a dead worker's gauges from the sum over all workers."""
    if MULTIPROCESS_FOLDER in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
