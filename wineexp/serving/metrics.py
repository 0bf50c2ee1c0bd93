"""Figures of a running server, as Prometheus reads them; every label has few values."""

import os
from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from wineexp.serving.model.predictor import Prediction, Predictor

# Seconds: a row takes milliseconds, a large batch seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Set by a server of several workers: the folder in which they share their figures.
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """All metrics of one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        own = CollectorRegistry()
        self._own = own
        # What labels lead to is looked up once: that costs more than counting.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._classes: dict[str, Counter] = {}
        self.requests = Counter("wineexp_requests", "Requests answered", ["method", "route", "status"], registry=own)
        self.seconds = Histogram(
            "wineexp_request_duration_seconds",
            "From a request's head to the end of its answer",
            ["method", "route"],
            buckets=BUCKETS,
            registry=own,
        )
        self.in_flight = Gauge(
            "wineexp_requests_in_flight", "Requests being answered", registry=own, multiprocess_mode="livesum"
        )
        self.predictions = Counter("wineexp_predictions", "Rows answered, by class", ["class"], registry=own)
        self.outside = Counter("wineexp_rows_out_of_range", "Rows with a value beyond the training range", registry=own)
        self.model = Gauge(
            "wineexp_model_info",
            "1 for the version that answers",
            ["name", "alias", "version", "run_id"],
            registry=own,
            multiprocess_mode="livemax",
        )
        self.swaps = Counter("wineexp_model_swaps", "Versions that took over from another", registry=own)
        self.refusals = Counter("wineexp_model_refusals", "Versions that failed a check", registry=own)
        self.load_failures = Counter(
            "wineexp_model_load_failures", "Attempts to fetch and load a version that came to nothing", registry=own
        )
        self.registry_up = Gauge(
            "wineexp_registry_up", "Whether the last poll reached it", registry=own, multiprocess_mode="livemin"
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        counter, histogram = self._children.get((method, route, status)) or self._child(method, route, status)
        counter.inc()
        histogram.observe(seconds)

    def _child(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        found = self.requests.labels(method, route, str(status)), self.seconds.labels(method, route)
        self._children[method, route, status] = found
        return found

    def count_predictions(self, answers: Sequence[Prediction]) -> None:
        """Count answers by class, and the rows that went beyond the training range."""
        self.count_labels([each.label for each in answers], sum([bool(each.out_of_range) for each in answers]))

    def count_labels(self, labels: Sequence[str], outside: int) -> None:
        """Count the classes that rows got, and so many rows that went beyond the training range."""
        counts = Counts(labels) if len(labels) > 1 else {labels[0]: 1}
        for label, count in counts.items():
            counter = self._classes.get(label)
            if counter is None:
                counter = self._classes[label] = self.predictions.labels(label)
            counter.inc(count)
        if outside:
            self.outside.inc(outside)

    def set_model(self, predictor: Predictor, before: Predictor | None) -> None:
        """Tell which version answers, and which did before."""
        if before is not None:
            self.swaps.inc()
            if MULTIPROCESS_FOLDER in os.environ:
                self.model.labels(*_labels(before)).set(0)
            else:
                self.model.remove(*_labels(before))
        self.model.labels(*_labels(predictor)).set(1)

    def text(self) -> bytes:
        """All figures in Prometheus' text format, those of every worker together."""
        if folder := os.environ.get(MULTIPROCESS_FOLDER):
            everything = CollectorRegistry()
            MultiProcessCollector(everything, path=folder)  # type: ignore[no-untyped-call]
            return generate_latest(everything)
        return generate_latest(self._own)


def _labels(predictor: Predictor) -> tuple[str, str, str, str]:
    lineage = predictor.lineage
    return lineage.name, lineage.alias, str(lineage.version), lineage.run_id


def mark_dead(pid: int) -> None:
    """Leave a dead worker out of what is summed over the living."""
    if MULTIPROCESS_FOLDER in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
