"""Proof that a compiled model equals its pipeline bit for bit, on rows within and beyond the training range."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.core.columns import as_texts, is_number
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.models.compiled import kernel
from wineexp.models.compiled.arrays import Matrix
from wineexp.models.compiled.compiled_model import CompiledModel, load
from wineexp.models.compiled.composition import PIPELINE, STACKS
from wineexp.models.compiled.file_format import Part, unpack
from wineexp.models.compiled.flatten import has_native_categories
from wineexp.models.compiled.refusal import CannotCompileError
from wineexp.models.pipeline import outputs

N_ROWS = 100_000
# Rows per call: single rows and small batches first, since the kernel computes them in other ways than large ones.
SMALL_BATCHES, LARGE_BATCH = (1000, 64, 7, 3, 2, *[1] * 100), 10_000
# Rows that are predicted with numpy, too, where the kernel is built.
NUMPY_ROWS = 500
# Shares of values that are missing, and that are far beyond the training range.
MISSING_SHARE, EXTREME_SHARE = 0.1, 0.02
# A category that no training row has.
UNKNOWN_TEXT = "a text of no training row"
# Values up to the largest of float64, beyond those of float32, and whose square is infinite.
EXTREME_VALUES = (1e30, -1e30, 1e39, 1e160, -1e308)


def draw_rows(X: pd.DataFrame, n_rows: int, seed: int) -> pd.DataFrame:
    """Rows over and beyond the ranges of X (n_samples, n_features): shape (n_rows, n_features).

    In each column of numbers, a third of the values are X's own, where XGBoost's thresholds are; a third lie half-way
    between neighbours, where scikit-learn's are; the rest is drawn from three times the range. A few are extreme. In
    every other row some values are missing. Texts are X's own, and one that is not.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for name in X:
        column = X[name]
        if not is_number(column):
            texts = pd.Series(rng.choice([*as_texts(column).dropna().unique(), UNKNOWN_TEXT], n_rows), dtype="str")
            columns[str(name)] = texts.mask(rng.random(n_rows) < MISSING_SHARE / 2)
            continue
        observed = np.unique(column.dropna().to_numpy(dtype=np.float64))
        midpoints = (observed[1:] + observed[:-1]) / 2 if len(observed) > 1 else observed
        low, high = observed[0], observed[-1]
        margin = (high - low) or 1.0
        kind = rng.integers(3, size=n_rows)
        values = np.select(
            [kind == 0, kind == 1],
            [rng.choice(observed, n_rows), rng.choice(midpoints, n_rows)],
            rng.uniform(low - margin, high + margin, n_rows),
        )
        extreme = values * 10.0 ** rng.integers(-8, 8, n_rows)
        values = np.where(rng.random(n_rows) < EXTREME_SHARE, extreme, values)
        may_be_missing = np.arange(n_rows) % 2 == 1
        columns[str(name)] = np.where(may_be_missing & (rng.random(n_rows) < MISSING_SHARE), np.nan, values)
    return pd.DataFrame(columns)


def prove(content: bytes, fitted: Pipeline, X: pd.DataFrame, n_rows: int = N_ROWS) -> None:
    """Compare a compiled model with the pipeline that it was made of.

    Parameters
    ----------
    content : bytes
        The file of the compiled model.
    fitted : Pipeline
    X : DataFrame of shape (n_samples, n_features)
        The rows that it was fitted on.
    n_rows : int
        How many rows are compared.

    Raises
    ------
    CannotCompileError
        A probability or a number differs in any bit, or one of the two predicts what the other refuses.
    """
    compiled, rows = load(content), draw_rows(X, n_rows, seed=0)
    with threadpool_limits(NATIVE_THREADS):
        for batch in _batches(rows):
            _require_equal(compiled, fitted, batch)
        with kernel.numpy_only():
            with_numpy = load(content)
            _require_equal(with_numpy, fitted, rows.iloc[-NUMPY_ROWS:])
            _require_equal(with_numpy, fitted, rows.iloc[-1:])
        if has_native_categories(fitted[:-1]):
            # The compiled model's columns are others than those that the pipeline's model gets.
            _require_equal(compiled, fitted, _rows_on_thresholds(content, rows.iloc[:LARGE_BATCH]))
            _require_equal_refusals(compiled, fitted, rows.iloc[:1])
            return
        matrix = _matrix_on_thresholds(content, fitted, rows.iloc[:LARGE_BATCH])
        if not np.array_equal(outputs(fitted[-1], matrix), compiled.evaluate(matrix)):
            raise CannotCompileError("compiled, it predicts otherwise where values equal its thresholds")
        _require_equal_refusals(compiled, fitted, rows.iloc[:1])


def _batches(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    start = 0
    for size in (*SMALL_BATCHES, *[LARGE_BATCH] * (len(rows) // LARGE_BATCH + 1)):
        if start < len(rows):
            yield rows.iloc[start : start + size]
        start += size


def _tuples(batch: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(batch.astype(object).itertuples(index=False, name=None))


def _require_equal(compiled: CompiledModel, fitted: Pipeline, batch: pd.DataFrame) -> None:
    expected: Matrix = outputs(fitted, batch)
    actual = compiled.outputs(_tuples(batch))
    if not np.array_equal(expected, actual, equal_nan=True):
        differs = ~np.isclose(expected, actual, rtol=0, atol=0, equal_nan=True).all(axis=1)
        raise CannotCompileError(
            f"compiled, it predicts otherwise for {differs.sum()} of {len(batch)} rows in one call, by up to "
            f"{np.nanmax(np.abs(expected - actual)):g}"
        )
    if compiled.classes and _decisions(fitted[-1], expected) != _decisions(compiled, actual):
        raise CannotCompileError("compiled, it decides otherwise, or gives other prediction sets")


def _decisions(model: Any, probabilities: Matrix) -> tuple[Any, Any]:
    """What a fitted or compiled model decides, and its prediction sets, or None."""
    sets = model.prediction_sets(probabilities)
    return model.decide(probabilities).tolist(), None if sets is None else sets.tolist()


def _matrix_on_thresholds(content: bytes, fitted: Pipeline, rows: pd.DataFrame) -> Matrix:
    """The model's input of rows, with many values replaced by a threshold or a number next to one."""
    plan, arrays = unpack(content)
    matrix: Matrix = np.array(fitted[:-1].transform(rows), order=plan.memory_order)  # type: ignore[call-overload]
    rng = np.random.default_rng(1)
    prefixes = [
        prefix for prefix in _models_of_columns(plan.model, plan.model_arrays) if f"{prefix}.threshold" in arrays
    ]
    for number, prefix in enumerate(prefixes):
        is_split = arrays[f"{prefix}.left"] >= 0
        features, thresholds = arrays[f"{prefix}.feature"][is_split], arrays[f"{prefix}.threshold"][is_split]
        # Each member has rows of its own.
        changed = slice(number, None, len(prefixes))
        for column in np.unique(features):
            cells = matrix[changed, column]
            on = rng.choice(thresholds[features == column], len(cells))
            beside = np.nextafter(on, on.dtype.type(np.inf) * rng.choice([-1, 1], len(cells)).astype(on.dtype))
            kind = rng.integers(3, size=len(cells))
            matrix[changed, column] = np.select([kind == 0, kind == 1], [on, beside], cells)
    return matrix


def _models_of_columns(part: Part, name: str) -> Iterator[str]:
    """The names before the arrays of a model and of those within it that get the same columns."""
    yield name
    if part.kind == PIPELINE:
        return
    # The last member of a stack gets what the others predict.
    for number, member in enumerate(part.members[: -1 if part.kind in STACKS else None]):
        yield from _models_of_columns(member, f"{name}.member{number}")


def _rows_on_thresholds(content: bytes, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows, with many of their numbers replaced by a threshold or a number next to one, where these go on unchanged."""
    plan, arrays = unpack(content)
    if plan.transformers != ["unchanged"]:
        return rows
    prefix, rng = plan.model_arrays, np.random.default_rng(1)
    is_split = arrays[f"{prefix}.left"] >= 0
    features, thresholds = arrays[f"{prefix}.feature"][is_split], arrays[f"{prefix}.threshold"][is_split]
    numbers = [name for name in plan.columns if name not in plan.text_names]
    changed = {}
    for position, name in enumerate(numbers):
        if not (of_column := thresholds[features == position]).size:
            continue
        on = rng.choice(of_column, len(rows))
        beside = np.nextafter(on, np.inf * rng.choice([-1, 1], len(rows)))
        kind = rng.integers(3, size=len(rows))
        changed[name] = np.select([kind == 0, kind == 1], [on, beside], rows[name])
    return rows.assign(**changed)


def _require_equal_refusals(compiled: CompiledModel, fitted: Pipeline, row: pd.DataFrame) -> None:
    """Compare what both do with extreme values: they predict the same, or both predict nothing finite."""
    numbers = [name for name in row if is_number(row[name])]
    if not numbers:
        return
    # The row's other values stay, but none is missing.
    complete = row.fillna(dict.fromkeys(numbers, 1.0))
    for value in EXTREME_VALUES:
        changed = [complete.assign(**{str(name): value}) for name in numbers]
        # Where either refuses one of them, each is looked at by itself.
        if _equal_and_finite(compiled, fitted, pd.concat(changed)):
            continue
        for name, one in zip(numbers, changed, strict=True):
            if _finite_or_none(compiled.outputs, _tuples(one)) != _finite_or_none(partial(outputs, fitted), one):
                raise CannotCompileError(f"compiled, it predicts otherwise, or does not refuse, {name}={value:g}")


def _equal_and_finite(compiled: CompiledModel, fitted: Pipeline, rows: pd.DataFrame) -> bool:
    """Whether both predict the same finite probabilities or numbers for all rows."""
    expected = _finite_or_none(partial(outputs, fitted), rows)
    return expected is not None and expected == _finite_or_none(compiled.outputs, _tuples(rows))


def _finite_or_none(predict: Callable[[Any], Any], rows: Any) -> Any:
    """The probabilities or numbers; None where they are refused or not finite."""
    with contextlib.suppress(ValueError, ArithmeticError), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = predict(rows)
        return predicted.tolist() if np.isfinite(predicted).all() else None
    return None
