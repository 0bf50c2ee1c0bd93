"""What looks wrong with the columns of a table, before anything is trained on it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from wineexp.core.columns import as_texts, column_fault, is_number
from wineexp.core.dates import days

# Columns are nearly unique from this share of different values on, in tables of at least so many rows.
UNIQUE_SHARE, MIN_UNIQUE_ROWS = 0.95, 20
# The last word of the name of a column that numbers the rows.
ID_WORDS = ("id", "no", "nr", "number", "key", "uuid", "index", "unnamed")
# A column of words is one of numbers and words from this share of numbers on, and one of dates likewise.
MIXED_SHARE, DATES_SHARE = 0.5, 0.9
# Columns without a name, such as an index that pandas wrote: as pandas calls them, and as they are called here.
UNNAMED = r"(?:Unnamed:|column)_\d+(?:\.\d+)?"
DATE_AS_TEXT = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?:[ T].*)?"
# A column leaks the target where it alone tells the class of all rows but these, and the most frequent class does not.
LEAK_ERROR, LEAK_MIN_MAJORITY_ERROR, MAX_LEAK_ROWS, N_LEAK_FOLDS = 0.005, 0.05, 10_000, 3

MAX_SHOWN_WORDS, MAX_WORD_CHARS = 3, 20


class Finding(NamedTuple):
    """Something about a column that looks wrong, and whether the column is better left out."""

    column: str
    text: str
    is_to_drop: bool


def find_all(X: pd.DataFrame, y: pd.Series | None) -> Iterator[Finding]:
    """What looks wrong with the columns X (n_samples, n_columns), given the classes y (n_samples,), if they are any."""
    first_with: dict[bytes, str] = {}
    for name in map(str, X):
        column = X[name]
        if finding := _of_values(name, column):
            yield finding
            continue
        codes = pd.factorize(column)[0].astype("int32")
        # Where no value is there twice, each goes with one of any other such column: only equal ones say the same.
        repeats = codes.max(initial=-1) + 1 < (codes >= 0).sum()
        content = codes.tobytes() if repeats else pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes()
        if content in first_with:
            yield Finding(
                name, f"says the same as {first_with[content]}: each value of one goes with one of the other", False
            )
        first_with.setdefault(content, name)
        if y is not None and (finding := _leak(name, column, y)):
            yield finding


def _of_values(name: str, column: pd.Series) -> Finding | None:
    """What its own values say against a column."""
    present = column.dropna()
    if present.empty or (present.nunique() == 1 and len(present) == len(column)):
        return Finding(
            name,
            "has no value at all" if present.empty else f"has the same value in every row, {_shown(present)}",
            True,
        )
    if pd.api.types.is_datetime64_any_dtype(column):
        return None
    if fault := column_fault(column):
        return Finding(name, fault, True)
    if _numbers_rows(name, present):
        return Finding(name, f"numbers the rows, from {present.min():,} to {present.max():,}", True)
    is_text = not (is_number(column) or pd.api.types.is_bool_dtype(column))
    texts = as_texts(present).astype("str") if is_text else pd.Series(dtype="str")
    if is_text and texts.str.fullmatch(DATE_AS_TEXT).mean() >= DATES_SHARE:
        remedy = "write them as 2024-12-31, or say their format, columns: {NAME: {format: '%d/%m/%Y'}}"
        return Finding(name, f"holds dates as texts, {_shown(texts)}; {remedy}", True)
    is_unique = len(column) >= MIN_UNIQUE_ROWS and present.nunique() >= UNIQUE_SHARE * len(column)
    if is_unique and not pd.api.types.is_float_dtype(column):
        names_rows = is_text or _is_called_id(name)
        text = f"has {present.nunique():,} different values in {len(column):,} rows"
        return Finding(
            name, f"{text}; it names the rows" if names_rows else f"{text}; drop it if it names them", names_rows
        )
    return _of_texts(name, texts) if is_text else None


def _numbers_rows(name: str, present: pd.Series) -> bool:
    """Whether whole numbers run on from row to row; those of a column without a name may also begin again, or be mixed.

    A column that has a name and the numbers 1 to n in another order may as well be a rank.
    """
    if not pd.api.types.is_integer_dtype(present) or len(present) < 2:
        return False
    values = present.to_numpy()
    steps = np.diff(values)
    if re.fullmatch(UNNAMED, name):
        begins_again = present.nunique() >= MIN_UNIQUE_ROWS and bool(((steps == 1) | (values[1:] == values[0])).all())
        return present.is_unique or begins_again
    return len(values) >= MIN_UNIQUE_ROWS and abs(int(steps[0])) == 1 and bool((steps == steps[0]).all())


def _of_texts(name: str, texts: pd.Series) -> Finding | None:
    """What texts, none of them missing, say against their column."""
    is_numeric = pd.to_numeric(texts.str.replace(",", ".", regex=False), errors="coerce").notna()
    if MIXED_SHARE <= is_numeric.mean() < 1:
        words = _shown(texts[~is_numeric])
        return Finding(
            name,
            f"{int(is_numeric.sum()):,} of {len(texts):,} values are numbers, others are not: {words}; "
            "if these mean a missing value, say missing=[...]",
            False,
        )
    different = pd.Series(texts.unique(), dtype="str")
    spelled = different.str.casefold().str.split().str.join(" ")
    alike = different[spelled.duplicated(keep=False)]
    if alike.empty:
        return None
    words = _shown(alike.loc[spelled[alike.index].sort_values(kind="stable").index])
    return Finding(
        name, f"has values that differ only by case or spaces, {words}; spell alike what means the same", False
    )


def _is_called_id(name: str) -> bool:
    return re.split(r"_|(?<=[a-z])(?=[A-Z])", name)[-1].lower() in ID_WORDS


def _shown(values: pd.Series) -> str:
    """A few of the different values, for a message."""
    different = values.unique()
    words = [str(value)[:MAX_WORD_CHARS] for value in different[:MAX_SHOWN_WORDS]]
    return ", ".join(map(repr, words)) + (", ..." if len(different) > MAX_SHOWN_WORDS else "")


def _leak(name: str, column: pd.Series, y: pd.Series) -> Finding | None:
    """Whether a column alone tells the class, as one does that was written down after the class was known."""
    rows = np.random.default_rng(0).permutation(len(y))[:MAX_LEAK_ROWS]
    labels = y.astype(str).to_numpy()[rows]
    counts = pd.Series(labels).value_counts()
    if counts.min() < N_LEAK_FOLDS or 1 - counts.max() / len(labels) < LEAK_MIN_MAJORITY_ERROR:
        return None
    is_date = pd.api.types.is_datetime64_any_dtype(column)
    values = (pd.Series(days(column), name=name) if is_date else column).iloc[rows]
    folds = StratifiedKFold(N_LEAK_FOLDS)
    if is_number(values):
        tree = DecisionTreeClassifier(max_leaf_nodes=max(4, 2 * len(counts)), min_samples_leaf=2, random_state=0)
        predicted = cross_val_predict(tree, values.to_frame(), labels, cv=folds)
    else:
        words = as_texts(values).fillna("").to_numpy()
        predicted = np.empty(len(rows), dtype=object)
        for training, test in folds.split(words, labels):
            likeliest = pd.crosstab(words[training], labels[training]).idxmax(axis=1)
            predicted[test] = pd.Series(words[test]).map(likeliest)
    error = float((predicted != labels).mean())
    if error > LEAK_ERROR:
        return None
    return Finding(
        name, f"alone tells the class of {1 - error:.1%} of the rows; drop it if it is known only afterwards", False
    )
