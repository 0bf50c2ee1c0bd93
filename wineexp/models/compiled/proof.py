"""A compiled form held against its pipeline, bit for bit, on rows over and beyond what training saw."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.models.compiled import kernel
from wineexp.models.compiled.flatten import NoFormError
from wineexp.models.compiled.form import Form, read, unpack
from wineexp.models.compiled.steps import Numbers

ROWS = 100_000
# Rows that are asked at once: most of them in large batches, some in small ones, some alone.
LARGE, SHAPES = 10_000, (1000, 64, 7, 3, 2, *[1] * 100)
# Rows that numpy's walk is asked too, where the library in C is there.
WALKED = 500
# The share of values that are missing, in the rows that have such, and that are far beyond the training range.
MISSING, FAR = 0.1, 0.02


def rows(X: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Rows like X (n_samples, n_features), and unlike: over and beyond its ranges, on its values and between them.

    A third is of X's own values, column by column, where XGBoost's thresholds are; a third of values half-way between
    neighbours, where scikit-learn's are; the rest is drawn from three times the range. Of every other row some values
    are missing, and a few far off.
    """
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for name in X:
        column = X[name]
        if not pd.api.types.is_numeric_dtype(column):
            words = column.dropna().unique()
            told = pd.Series(rng.choice(words, count), dtype=column.dtype)
            columns[str(name)] = told.mask(rng.random(count) < MISSING / 2)
            continue
        seen = np.unique(column.dropna().to_numpy(dtype=np.float64))
        between = (seen[1:] + seen[:-1]) / 2 if len(seen) > 1 else seen
        low, high = seen[0], seen[-1]
        beyond = (high - low) or 1.0
        kind = rng.integers(3, size=count)
        drawn = np.select(
            [kind == 0, kind == 1],
            [rng.choice(seen, count), rng.choice(between, count)],
            rng.uniform(low - beyond, high + beyond, count),
        )
        drawn = np.where(rng.random(count) < FAR, drawn * 10.0 ** rng.integers(-8, 8, count), drawn)
        odd = np.arange(count) % 2 == 1
        columns[str(name)] = np.where(odd & (rng.random(count) < MISSING), np.nan, drawn)
    return pd.DataFrame(columns)


def prove(content: bytes, fitted: Pipeline, X: pd.DataFrame, count: int = ROWS) -> None:
    """Hold a compiled form, in a file's bytes, against the pipeline that it was made of.

    Parameters
    ----------
    content : bytes
    fitted : Pipeline
    X : DataFrame of shape (n_samples, n_features)
        The rows that it was fitted on.
    count : int
        Rows in all.

    Raises
    ------
    NoFormError
        An answer differs, in whichever bit, or one has one where the other refuses.
    """
    form, drawn = read(content), rows(X, count, seed=0)
    with threadpool_limits(NATIVE_THREADS):
        for batch in _batches(drawn):
            _same(form, fitted, batch)
        with kernel.plain():
            walked = read(content)
            _same(walked, fitted, drawn.iloc[-WALKED:])
            _same(walked, fitted, drawn.iloc[-1:])
        matrix = _on_thresholds(content, fitted, drawn.iloc[:LARGE])
        if not np.array_equal(fitted[-1].predict_proba(matrix), form.model(matrix)):
            raise NoFormError("its model answers otherwise where values equal its thresholds")
        _refusing_alike(form, fitted, drawn.iloc[:1])


def _batches(drawn: pd.DataFrame) -> Iterator[pd.DataFrame]:
    start = 0
    for size in (*SHAPES, *[LARGE] * (len(drawn) // LARGE + 1)):
        if start < len(drawn):
            yield drawn.iloc[start : start + size]
        start += size


def _listed(batch: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(batch.astype(object).itertuples(index=False, name=None))


def _same(form: Form, fitted: Pipeline, batch: pd.DataFrame) -> None:
    told: Numbers = fitted.predict_proba(batch)
    found = form.ask(_listed(batch))
    if not np.array_equal(told, found, equal_nan=True):
        wrong = ~np.isclose(told, found, rtol=0, atol=0, equal_nan=True).all(axis=1)
        raise NoFormError(
            f"{wrong.sum()} of {len(batch)} rows asked at once get other probabilities, by up to "
            f"{np.nanmax(np.abs(told - found)):g}"
        )


def _on_thresholds(content: bytes, fitted: Pipeline, drawn: pd.DataFrame) -> Numbers:
    """Columns as the model gets them, of which many equal a threshold, or are the next number to one."""
    plan, arrays = unpack(content)
    matrix: Numbers = np.array(fitted[:-1].transform(drawn), order=plan.order)  # type: ignore[call-overload]
    if "model.threshold" not in arrays:
        return matrix
    rng = np.random.default_rng(1)
    inner = arrays["model.left"] >= 0
    columns, limits = arrays["model.feature"][inner], arrays["model.threshold"][inner]
    for column in np.unique(columns):
        some = rng.choice(limits[columns == column], len(matrix))
        near = np.nextafter(some, some.dtype.type(np.inf) * rng.choice([-1, 1], len(matrix)).astype(some.dtype))
        kind = rng.integers(3, size=len(matrix))
        matrix[:, column] = np.select([kind == 0, kind == 1], [some, near], matrix[:, column])
    return matrix


def _refusing_alike(form: Form, fitted: Pipeline, row: pd.DataFrame) -> None:
    """Both compute, or neither does, with a value as large as they come."""
    numbers = row.select_dtypes("number").columns
    for name in numbers:
        for value in (1e30, -1e30, 1e39, 1e160, -1e308):
            # The others as they are, but none of them missing.
            changed = row.fillna(dict.fromkeys(numbers, 1.0)).assign(**{str(name): value})
            if _asked(form.ask, _listed(changed)) != _asked(fitted.predict_proba, changed):
                raise NoFormError(f"with {name}={value:g} it answers otherwise, or answers where the pipeline refuses")


def _asked(ask: Callable[[Any], Any], rows: Any) -> Any:
    """The answer; None where there is no finite one."""
    with contextlib.suppress(ValueError, ArithmeticError), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ask(rows)
        return found.tolist() if np.isfinite(found).all() else None
    return None
