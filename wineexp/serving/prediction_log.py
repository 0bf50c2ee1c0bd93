"""The prediction log of one serving process: each answered row, written down off the request's way."""

import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import compress, groupby
from typing import Any

import numpy as np
from litestar import Litestar

from wineexp.core.config import Server
from wineexp.core.errors import UserError, did_you_mean
from wineexp.data.schema import Schema
from wineexp.monitoring import prediction_log
from wineexp.monitoring.format import OUTSIDE_SEPARATOR, Layout, predictions_layout
from wineexp.monitoring.prediction_log import TruthStore
from wineexp.monitoring.writer import Rows, Writer
from wineexp.serving.answers import Answer
from wineexp.serving.metrics import Metrics
from wineexp.serving.model.predictor import NumberPrediction, Prediction, Predictor

# Values of a row beside its inputs and outputs.
N_OTHER_VALUES = 8


class PredictionLog:
    """Takes answered requests, and writes their rows into `serve.log`.

    Parameters
    ----------
    address : str
        A folder, or a PostgreSQL database.
    settings : Server
    metrics : Metrics
        Where written and dropped rows are counted.

    """

    def __init__(self, address: str, settings: Server, metrics: Metrics) -> None:
        limits = settings.log_max_days, settings.log_max_bytes
        # Truths are not written in the thread: a client is told whether its truth is stored.
        self._truths: TruthStore = prediction_log.open_store(address)
        self._writing_truths = threading.Lock()
        self._writer: Writer[Answer] = Writer(
            prediction_log.open_store(address, *limits),
            self._rows,
            metrics.logged_rows.inc,
            metrics.dropped_rows.inc,
            metrics.log_up.set,
        )
        self._metrics = metrics
        self._left_out = frozenset(settings.log_without)
        # A request is logged whole or not at all, in each replica alike.
        self._sampled_below = settings.log_rate * 2**32
        self._layouts: dict[tuple[int, str], tuple[Predictor, Layout, Callable[[Any], Any]]] = {}

    @property
    def failing(self) -> str | None:
        """Since when, and why, nothing can be written."""
        return self._writer.failing

    def check_left_out(self, schema: Schema) -> None:
        """Check that the inputs that must not be stored are inputs.

        Raises
        ------
        UserError
            With each name that is none.
        """
        names = [feature.name for feature in schema.features]
        if unknown := sorted(self._left_out.difference(names)):
            raise UserError(
                *(f"serve.log_without={name}: no such feature; {did_you_mean(name, names)}" for name in unknown)
            )

    def write_truths(self, rows: Sequence[tuple[int, str, int, str]]) -> None:
        """Write truths at once; see `TruthStore`.

        Raises
        ------
        OSError
            They could not be written.
        """
        with self._writing_truths:
            self._truths.write_truths(rows)
            self._truths.maintain()

    def receive(self, answer: Answer) -> None:
        """Take an answered request; see `answers`."""
        if zlib.crc32(answer.request_id.encode()) < self._sampled_below:
            n_rows, n_outputs = answer.outputs.shape
            n_values = n_outputs + len(answer.predictor.parser.features) + N_OTHER_VALUES
            self._writer.put(answer, n_rows, n_rows * n_values)

    @asynccontextmanager
    async def written(self, _: Litestar | None) -> AsyncIterator[None]:
        """Write as long as the application runs, and what is left at its end."""
        self._metrics.log_up.set(True)
        self._writer.start()
        try:
            yield
        finally:
            self._writer.close()
            self._truths.close()

    def _rows(self, answers: Sequence[Answer]) -> Iterator[Rows]:
        """The rows of answers, by their layout."""
        for (_, variant), group in groupby(answers, lambda answer: (id(answer.predictor), answer.variant)):
            of_version = list(group)
            predictor = of_version[0].predictor
            layout, stored = self._layout(predictor, variant)
            yield layout, [row for answer in of_version for row in _values(answer, stored)]

    def _layout(self, predictor: Predictor, variant: str) -> tuple[Layout, Callable[[Any], Any]]:
        """The layout of a version's rows, and the function that takes from a row the inputs that are stored."""
        key = id(predictor), variant
        if key not in self._layouts:
            # Of the few versions that there are at one time; with its predictor, so that its id is not used again.
            self._layouts = dict(list(self._layouts.items())[-3:])
            schema, parser = predictor.schema, predictor.parser
            kept = [name not in self._left_out for name in parser.features]
            names = list(compress(parser.features, kept))
            layout = predictions_layout(
                predictor.lineage.name,
                predictor.lineage.version,
                [(name, name in parser.text_features) for name in names],
                variant=variant,
                classes=schema.classes,
                has_interval=schema.intervals is not None,
            )
            stored = (lambda row: row) if all(kept) else (lambda row: tuple(compress(row, kept)))
            self._layouts[key] = predictor, layout, stored
        return self._layouts[key][1:]


def _values(answer: Answer, stored: Callable[[Any], Any]) -> Iterator[tuple[Any, ...]]:
    """The values of an answer's rows, in the order of `predictions_layout`."""
    moment, request_id, latency = int(answer.time * 1e6), answer.request_id, answer.latency_ms
    predictions: Sequence[Prediction | NumberPrediction] = answer.predictions or answer.predictor.predictions(
        answer.rows, answer.outputs
    )
    rows = answer.rows.tolist() if isinstance(answer.rows, np.ndarray) else answer.rows
    for number, (prediction, row) in enumerate(zip(predictions, rows, strict=True)):
        outside = OUTSIDE_SEPARATOR.join(prediction.out_of_range)
        head = moment, request_id, number, latency, outside
        if isinstance(prediction, Prediction):
            yield *head, prediction.label, *prediction.probabilities.values(), *stored(row)
        else:
            yield *head, prediction.prediction, *(prediction.interval or ()), *stored(row)
