"""A compiled model: made of a plan and arrays, all of them checked, it predicts probabilities or numbers of rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wineexp.core.errors import UserError
from wineexp.evaluation.predictions import best_decisions
from wineexp.models.compiled.arrays import Array, CheckedArrays, Matrix
from wineexp.models.compiled.classifiers import XGBoost
from wineexp.models.compiled.composition import of_all_classes, read_classifier, read_regressor
from wineexp.models.compiled.file_format import Plan, unpack
from wineexp.models.compiled.kernel_calls import KernelTransformers, SingleRowModel
from wineexp.models.compiled.regressors import UNDONE
from wineexp.models.compiled.transformers import TRANSFORMERS, build_transforms

# Rows that become an array in one call of numpy, which holds the GIL meanwhile.
ROWS_PER_CONVERSION = 500

# Models within models within models ...: a file that goes deeper is not read.
MAX_DEPTH = 20

Row = Sequence[float | str | None]
Rows = Sequence[Row] | Matrix


class CompiledModel:
    """A pipeline of which every step is computed with plain arrays.

    Parameters
    ----------
    plan : Plan
    arrays : mapping of str to ndarray

    Attributes
    ----------
    classes : list of int or str
        None where numbers are predicted.

    Raises
    ------
    UserError
        The plan contradicts itself, or an array is missing or not as the plan needs it.
    """

    def __init__(self, plan: Plan, arrays: Mapping[str, Array]) -> None:
        self.plan = plan
        self.classes = plan.classes
        _check(plan)
        names = plan.text_names
        self._number_positions = [position for position, name in enumerate(plan.columns) if name not in names]
        # The position of each column of text, with the numbers that each of its categories becomes.
        self._encoders = [
            (plan.columns.index(name), encoder) for name, encoder in zip(names, _encoders(plan, arrays), strict=True)
        ]
        self._transforms, n_columns = build_transforms(
            plan.transformers, CheckedArrays(arrays, ""), len(self._number_positions)
        )
        n_columns += sum(encoder.values.shape[1] for _, encoder in self._encoders)
        model_arrays = CheckedArrays(arrays, plan.model_arrays)
        if plan.regressor:
            self._undo = UNDONE[plan.undone](CheckedArrays(arrays, "undone"))
            self._model = read_regressor(plan.model, model_arrays, n_columns)
        else:
            self._model = read_classifier(plan.model, model_arrays, n_columns, len(plan.present))
        self._present = np.array(plan.present, dtype=np.int64)
        self._costs, self._utility = (np.array(of, dtype=np.float64) for of in (plan.costs, plan.utility))
        self._set_thresholds = np.zeros(len(plan.classes))
        if plan.set_thresholds:
            self._set_thresholds[self._present] = plan.set_thresholds
        self._single_row_model = self._make_single_row_model()

    def _make_single_row_model(self) -> SingleRowModel | None:
        """A faster way for a single row, where the kernel can compute the whole model."""
        classifier, transforms = self._model, self._transforms
        if self._encoders or not isinstance(classifier, XGBoost):
            return None
        if len(transforms) != 1 or not isinstance(transforms[0], KernelTransformers):
            return None
        transformers, trees, present = transforms[0], classifier.trees, self.plan.present
        if not SingleRowModel.supports(transformers, trees, present):
            return None
        return SingleRowModel(transformers, trees, classifier.base, present, len(self.classes))

    def outputs(self, rows: Rows) -> Matrix:
        """Probabilities of shape (n_rows, n_classes), or predicted numbers of shape (n_rows, 1).

        Parameters
        ----------
        rows : list of sequences, or ndarray of shape (n_rows, n_features)
            A value for each column; NaN, or None for a text, where it is missing.

        Raises
        ------
        ValueError
            The pipeline would refuse a value, too: it is infinite, or becomes so.
        """
        if self._single_row_model is not None and len(rows) == 1:
            return self._single_row_model(rows[0])
        if not self._encoders:
            return self.evaluate(self.transform(_matrix(rows)))
        numbers = np.array([[row[position] for position in self._number_positions] for row in rows], dtype=np.float64)
        encoded = [encoder([row[position] for row in rows]) for position, encoder in self._encoders]
        return self.evaluate(np.hstack([self.transform(numbers), *encoded]))

    def decide(self, probabilities: Matrix) -> npt.NDArray[np.intp]:
        """Decisions for probabilities (n_rows, n_classes): positions in `classes`, of shape (n_rows,)."""
        if self.plan.costs:
            return best_decisions(probabilities, -self._costs)
        if self.plan.utility:
            return np.asarray(self._present[best_decisions(probabilities[:, self._present], self._utility)])
        return np.asarray(probabilities.argmax(axis=1))

    def prediction_sets(self, probabilities: Matrix) -> npt.NDArray[np.bool_] | None:
        """Which classes are in the prediction set of each row (n_rows, n_classes), for probabilities of that shape.

        A class that is missing from the training rows is in every set. None for a model that gives no such sets.
        """
        return np.asarray(probabilities >= self._set_thresholds) if self.plan.set_thresholds else None

    def transform(self, values: Matrix) -> Matrix:
        """The transformed number columns, from those of shape (n_rows, n_numbers)."""
        for transform in self._transforms:
            values = transform(values)
        return values

    def evaluate(self, X: Matrix) -> Matrix:
        """The outputs of rows, from their transformed columns of shape (n_rows, n_columns)."""
        computed = self._model(np.asarray(X, order=self.plan.memory_order))  # type: ignore[call-overload]
        if self.plan.regressor:
            return np.asarray(self._undo(computed), dtype=np.float64)
        return of_all_classes(computed, self._present, len(self.classes))


def load(content: bytes) -> CompiledModel:
    """The compiled model in the bytes of a file.

    Raises
    ------
    UserError
        The file is of another kind, cut short, or holds what is no compiled model.
    """
    return CompiledModel(*unpack(content))


def _matrix(rows: Rows) -> Matrix:
    """Rows of numbers as a matrix, converted in pieces so that other threads get the GIL in between."""
    if len(rows) <= ROWS_PER_CONVERSION or isinstance(rows, np.ndarray):
        # The kernel reads row after row, whatever the order of a given array is.
        return np.array(rows, dtype=np.float64, order="C")
    starts = range(0, len(rows), ROWS_PER_CONVERSION)
    return np.concatenate([_matrix(rows[start : start + ROWS_PER_CONVERSION]) for start in starts])


def _check(plan: Plan) -> None:
    faults = [f"transformer {kind} is unknown" for kind in plan.transformers if kind not in TRANSFORMERS]
    if plan.regressor:
        faults += [f"transform {plan.undone} is unknown"] if plan.undone not in UNDONE else []
        faults += ["a regressor has no classes"] if plan.classes or plan.present or plan.classifier else []
    if plan.memory_order not in ("C", "F"):
        faults.append(f"memory_order must be C or F, but is {plan.memory_order}")
    if len(set(plan.columns)) < len(plan.columns) or not plan.columns:
        faults.append("columns must name one column or more, each once")
    if not plan.present and not plan.regressor:
        faults.append("present must name one class or more")
    if sorted(set(plan.present)) != plan.present or not all(
        0 <= position < len(plan.classes) for position in plan.present
    ):
        faults.append(f"present must hold ascending positions of the {len(plan.classes)} classes")
    if plan.costs and [len(of_class) for of_class in plan.costs] != [len(plan.classes)] * len(plan.classes):
        faults.append(f"costs must have a row and a column for each of the {len(plan.classes)} classes")
    level, depth = plan.members, 0
    while level and depth <= MAX_DEPTH:
        level, depth = [member for part in level for member in part.members], depth + 1
    if level:
        faults.append(f"models are within each other more than {MAX_DEPTH} times")
    n_present = len(plan.present)
    if plan.utility and [len(of_class) for of_class in plan.utility] != [n_present] * n_present:
        faults.append(f"utility must have a row and a column for each of the {n_present} classes in the training rows")
    if plan.set_thresholds and len(plan.set_thresholds) != n_present:
        faults.append(f"set_thresholds must have one for each of the {n_present} classes in the training rows")
    faults += [f"text column {name} is not among the columns" for name in plan.text_names if name not in plan.columns]
    for column in plan.text_columns:
        if not {column.fill, column.dropped or column.fill} <= {*column.categories}:
            faults.append(f"the fill or dropped value of text column {column.name} is not among its categories")
    if faults:
        raise UserError(*(f"the plan of the compiled model is wrong: {fault}" for fault in faults))


class _Encoder:
    """Texts as numbers: `values` (n_categories, n_numbers) has those of each category, `other` the row of any other."""

    def __init__(self, categories: list[str], values: Matrix, other: int) -> None:
        self.values = values
        self._rows = {category: row for row, category in enumerate(categories)}
        self._other = other

    def __call__(self, texts: list[Any]) -> Matrix:
        """Numbers of shape (n_texts, n_numbers); a missing text is None or NaN."""
        return self.values[[self._rows.get(text, self._other) for text in texts]]


def _encoders(plan: Plan, arrays: Mapping[str, Array]) -> Iterator[_Encoder]:
    """One for each of the plan's `text_names`."""
    for column in plan.text_columns:
        indicators = np.eye(len(column.categories))
        if column.dropped is not None:
            indicators = np.delete(indicators, column.categories.index(column.dropped), axis=1)
        yield _Encoder(column.categories, indicators, column.categories.index(column.fill))
    for position, encoded in enumerate(plan.encoded_columns):
        n_rows = len(encoded.categories) + 1
        values = CheckedArrays(arrays, f"encoded{position}").get("values", "float64", n_rows, None)
        if not np.isfinite(values).all():
            raise UserError(f"array encoded{position}.values of the compiled model holds a value that is not finite")
        yield _Encoder(encoded.categories, values, n_rows - 1)
