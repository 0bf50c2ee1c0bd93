"""Kinds of columns: numbers, and texts, as which everything else is taken that a model can learn from."""

import numpy as np
import pandas as pd

# Types of the values of a column of texts: truth values and numbers among them are taken as words.
TEXT_TYPES = (str, bool, np.bool_, int, np.integer, float, np.floating)


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers; truth values are taken as texts."""
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def as_texts(column: pd.Series) -> pd.Series:
    """The values as texts, spelled as Python spells them, and NaN where one is missing: shape (n_samples,)."""
    values = column.astype(object)
    return values.map(str, na_action="ignore").astype(object).where(values.notna(), np.nan)


def column_fault(column: pd.Series) -> str | None:
    """Why no model can learn from a column, and what to do about it; None where one can."""
    values = column.dropna()
    if values.empty:
        return "has no value in any row that is trained on; leave it out"
    if pd.api.types.is_complex_dtype(values) or not (is_number(values) or holds_texts(values)):
        kind = pd.api.types.infer_dtype(values)
        if kind.startswith(("date", "time", "period")):
            return (
                f"holds periods or durations ({kind}), and a model learns from numbers, texts and dates; make numbers "
                "of them, such as days, or leave it out"
            )
        named = sorted({type(value).__name__ for value in values if not isinstance(value, TEXT_TYPES)})
        return f"holds values of type {', '.join(named)}, and a model learns from numbers and texts; leave it out"
    if is_number(values) and (infinite := int(np.isinf(values.to_numpy(dtype=np.float64)).sum())):
        return f"holds {infinite:,} infinite values; replace them, or leave them missing"
    return None


def holds_texts(values: pd.Series) -> bool:
    """Whether values, none of them missing, are all of `TEXT_TYPES`."""
    items = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values.array
    return pd.api.types.is_bool_dtype(values) or all(isinstance(item, TEXT_TYPES) for item in items)
