"""The answers to the rows of a file: as a server reads them, and with the bits that it gives them."""

import math
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from wineexp.data.schema import NumericFeature
from wineexp.monitoring.format import (
    DECISION,
    NUMBER,
    NUMBER_HIGH,
    NUMBER_LOW,
    OUTSIDE,
    OUTSIDE_SEPARATOR,
    PROBABILITY,
)
from wineexp.serving.model.predictor import NumberPrediction, Outputs, Prediction, Predictor
from wineexp.serving.model.rows import Rows
from wineexp.serving.routes.mlflow import cell_value, lenient_value, objects_of_rows
from wineexp.workflows.row_file import Chunk, RowFile

PREDICTION_SET = "prediction_set"

# Rows of each chunk that are predicted one by one, too.
PROBED_ROWS = 100


class FileAnswers:
    """A version's answers to the rows of a file.

    Parameters
    ----------
    predictor : Predictor
    file : RowFile

    Attributes
    ----------
    passed : list of int
        Places of the columns that the model does not know, which are passed through.
    schema : Schema
        The columns of the answers: first those that are passed through.
    """

    def __init__(self, predictor: Predictor, file: RowFile) -> None:
        self._predictor = predictor
        self._file = file
        parser = predictor.parser
        self.passed = [place for place, name in enumerate(file.columns) if parser.feature_name(name) is None]
        self._differs_alone = False
        by_feature = {parser.feature_name(name): place for place, name in enumerate(file.columns)}
        # Where in a row the features are, in the model's order; a file that lacks one is refused elsewhere.
        self._places = [by_feature.get(name, 0) for name in parser.features]
        self._convert = lenient_value if file.is_parquet else cell_value
        self.schema = self._schema()

    def _schema(self) -> pa.Schema:
        """The columns of the output."""
        schema = self._predictor.schema
        fields = [(self._file.columns[place], self._file.types[place]) for place in self.passed]
        if schema.numbers:
            ends = (NUMBER_LOW, NUMBER_HIGH) if schema.intervals else ()
            fields += [(name, pa.float64()) for name in (NUMBER, *ends)]
        else:
            fields += [(DECISION, pa.string()), *((f"{PROBABILITY}{name}", pa.float64()) for name in schema.classes)]
            if self._gives_sets():
                fields.append((PREDICTION_SET, pa.list_(pa.string())))
        return pa.schema([*fields, (OUTSIDE, pa.string())])

    def _gives_sets(self) -> bool:
        sample = self._predictor.schema.samples[0].row
        (prediction,) = self._predictor.predict(self._predictor.parser.parse_objects([sample]))
        return isinstance(prediction, Prediction) and isinstance(prediction.prediction_set, list)

    def parsed(self, chunk: Chunk) -> Rows:
        """The rows of a chunk, read as a server reads a CSV text or JSON.

        Raises
        ------
        ProblemError
            With all that is wrong.
        """
        numbers = None if self._file.is_parquet else self._numbers(chunk)
        return numbers if numbers is not None else self._parsed_strictly(chunk)

    def _numbers(self, chunk: Chunk) -> Rows | None:
        """The rows of a chunk of finite numbers; None where anything else is in it, to be read strictly."""
        parser = self._predictor.parser
        if not all(isinstance(each, NumericFeature) and not each.is_date for each in parser.features.values()):
            return None
        try:
            values = np.array([[float(row[place]) for place in self._places] for row in chunk.rows])
        except ValueError:
            return None
        # float() would take 1_000, which is no number in a text.
        has_underscore = any("_" in row[place] for row in chunk.rows for place in self._places)
        return values if np.isfinite(values).all() and not has_underscore else None

    def _parsed_strictly(self, chunk: Chunk) -> Rows:
        rows = [[_plain(value) for value in row] for row in chunk.rows] if self._file.is_parquet else chunk.rows
        parser = self._predictor.parser
        return parser.parse_objects(objects_of_rows(parser, rows, self._file.columns, self._convert))

    def answers(self, chunk: Chunk, rows: Rows) -> pa.Table:
        """The answers to the rows of a chunk, as `parsed` gives them."""
        outputs = self._outputs(rows)
        predictions: Sequence[Any] = self._predictor.predictions(rows, outputs)
        columns: list[Any] = [[row[place] for row in chunk.rows] for place in self.passed]
        first = predictions[0]
        if isinstance(first, NumberPrediction):
            columns.append(outputs[:, 0])
            if self._predictor.schema.intervals:
                columns += zip(*(each.interval for each in predictions), strict=True)
        else:
            columns += [[each.label for each in predictions], *outputs.T]
            if isinstance(first.prediction_set, list):
                columns.append([each.prediction_set for each in predictions])
        columns.append([OUTSIDE_SEPARATOR.join(each.out_of_range) for each in predictions])
        schema = self.schema
        return pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
        )

    def _outputs(self, rows: Rows) -> Outputs:
        """The outputs of rows, each with the bits that a server gives it when it is asked for that row alone.

        The sums of a linear model or a network have other last bits where many rows are computed at once: BLAS adds in
        another order. Those of trees have not. Which it is, shows in the first rows of each chunk.
        """
        if not self._differs_alone:
            outputs = self._predictor.outputs(rows)
            alone = self._outputs_alone(rows[:PROBED_ROWS])
            if np.array_equal(outputs[: len(alone)], alone):
                return outputs
            self._differs_alone = True
        return self._outputs_alone(rows)

    def _outputs_alone(self, rows: Rows) -> Outputs:
        return np.concatenate([self._predictor.outputs(rows[place : place + 1]) for place in range(len(rows))])


def _plain(value: Any) -> Any:
    """A value of a Parquet file as one that JSON could have: numbers as floats, dates as texts."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float | Decimal):
        number = float(value)
        return None if math.isnan(number) else number
    return value.isoformat() if isinstance(value, date) else value
