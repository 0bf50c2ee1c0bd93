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
        # Truths are not written in the thread: the client gets to know whether its truth is stored.
        self._truths: TruthStore = prediction_log.open_store(address)
        self._writing_truths = threading.Lock()
        store = prediction_log.open_store(address, *limits)
        self._encode = store.encode
        self._writer: Writer[Answer | Rows] = Writer(
            store,
            self._rows,
            metrics.logged_rows.inc,
            metrics.dropped_rows.inc,
            metrics.log_up.set,
        )
        self._metrics = metrics
        self._left_out = frozenset(settings.log_without)
        # A request is logged whole or not at all, in each replica alike.
        self._samples, self._sampled_below = settings.log_rate < 1, settings.log_rate * 2**32
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
        if self._samples and zlib.crc32(answer.request_id.encode()) >= self._sampled_below:
            return
        n_rows = len(answer.rows)
        layout, stored = self._layout(answer.predictor, answer.variant)
        n_values = n_rows * (len(layout.columns) + N_OTHER_VALUES)
        if n_rows == 1 and answer.predictions is not None:
            # What waits is then a few bytes, where many objects would make the interpreter's memory grow and shrink.
            values = _values(answer, 0, answer.predictions[0], stored(answer.rows[0]))
            self._writer.put((layout, [self._encode(values)]), 1, n_values)
        else:
            self._writer.put(answer, n_rows, n_values)

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

    def _rows(self, items: Sequence[Answer | Rows]) -> Iterator[Rows]:
        """The encoded rows of answers, and those that are encoded already, by their layout."""
        for _, group in groupby(map(self._encoded, items), lambda encoded: id(encoded[0])):
            of_layout = list(group)
            yield of_layout[0][0], [row for _, rows in of_layout for row in rows]

    def _encoded(self, item: Answer | Rows) -> Rows:
        if not isinstance(item, Answer):
            return item
        layout, stored = self._layout(item.predictor, item.variant)
        predictions: Sequence[Prediction | NumberPrediction] = item.predictions or item.predictor.predictions(
            item.rows, item.outputs
        )
        rows = item.rows.tolist() if isinstance(item.rows, np.ndarray) else item.rows
        return layout, [
            self._encode(_values(item, number, prediction, stored(row)))
            for number, (prediction, row) in enumerate(zip(predictions, rows, strict=True))
        ]

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


def _values(
    answer: Answer, number: int, prediction: Prediction | NumberPrediction, inputs: Sequence[Any]
) -> tuple[Any, ...]:
    """The values of an answer's row of this number, in the order of `predictions_layout`."""
    outside = OUTSIDE_SEPARATOR.join(prediction.out_of_range)
    head = int(answer.time * 1e6), answer.request_id, number, answer.latency_ms, outside
    if isinstance(prediction, Prediction):
        return *head, prediction.label, *prediction.probabilities.values(), *inputs
    return *head, prediction.prediction, *(prediction.interval or ()), *inputs
