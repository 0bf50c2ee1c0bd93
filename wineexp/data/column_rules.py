"""What a data set's YAML says of a column, and what its cells are read as: said, or else inferred from all of them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from wineexp.core.columns import as_texts, holds_texts, is_number
from wineexp.core.errors import did_you_mean
from wineexp.data.table_file import DECIMAL_COMMA

TYPES = ("number", "category", "boolean", "date", "text")
# What a column of a Parquet file is that holds none of these, as lists or times of day.
OTHER = "other"
KEYS = ("type", "unit", "range", "levels", "format", "meaning")

TRUE_WORDS, FALSE_WORDS = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")

NUMBER = r"(?:[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf|infinity)))"
ISO_DATE = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"
# Other ways to write dates, of which one is inferred where it alone fits all values of a column. Between points the day
# comes first.
OTHER_DATE = r"(?:\d{4}[./]\d{1,2}[./]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4})(?: \d{1,2}:\d\d(?::\d\d)?)?"
DATE_FORMATS = ("%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
TIME_FORMATS = ("", " %H:%M", " %H:%M:%S")
# A column of words is free text, of which a model learns nothing, from so many different ones and so large a share of
# its rows on; any other is a category.
MIN_TEXT_VALUES, MIN_TEXT_SHARE = 50, 0.5

MISSING = "missing, and no value may be"


@dataclass(frozen=True)
class ColumnRule:
    """What is said of a column.

    Attributes
    ----------
    type : str or None
        One of `TYPES`; None infers it.
    unit, meaning : str
        For people; empty where nothing is said.
    low, high : float
        The least and the greatest number.
    levels : tuple
        The values of a category: all texts, or all numbers. Empty where any may occur.
    format : str
        Of dates, in the notation of `datetime.strptime`; empty for that of ISO 8601.
    """

    type: str | None = None
    unit: str = ""
    meaning: str = ""
    low: float = -np.inf
    high: float = np.inf
    levels: tuple[Any, ...] = ()
    format: str = ""

    @property
    def range_rule(self) -> str:
        """The range as a clause: `from 0 to 3 g/L`."""
        if np.isinf(self.low) and np.isinf(self.high):
            return "finite"
        words = f"at most {self.high:.15g}" if np.isinf(self.low) else f"at least {self.low:.15g}"
        if np.isfinite([self.low, self.high]).all():
            words = f"from {self.low:.15g} to {self.high:.15g}"
        return f"{words} {self.unit}".rstrip()


class Parsed(NamedTuple):
    """A column's values, one of `TYPES` or `OTHER`, and the rules that cells break, with the cells' positions."""

    values: pd.Series
    type: str
    faults: list[tuple[str, npt.NDArray[np.intp]]]


def read_rule(name: str, said: Any) -> tuple[ColumnRule, list[str]]:
    """What is said of a column in the key `name` of a config, and what is wrong with that, one sentence each."""
    if not isinstance(said, Mapping):
        return ColumnRule(), [f"{name}={said}: keys are wanted, as {{type: number, unit: kg}}"]
    faults = [
        f"{name}.{key}={said[key]}: no such key; {did_you_mean(str(key), KEYS)}" for key in said if key not in KEYS
    ]
    kind, limits, levels = said.get("type"), said.get("range"), said.get("levels")
    if kind is not None and kind not in TYPES:
        faults.append(f"{name}.type={kind}: no such type; {did_you_mean(str(kind), TYPES)}")
    low, high = -np.inf, np.inf
    if limits is not None:
        if not _is_range(limits):
            faults.append(
                f"{name}.range={limits}: the least and the greatest number are wanted, null where there is none"
            )
        else:
            low, high = (bound if end is None else float(end) for end, bound in zip(limits, (low, high), strict=True))
        if kind not in (None, "number"):
            faults.append(f"{name}.range={limits}: only a column of type number has a range, this one is a {kind}")
        kind = kind or "number"
    if levels is not None:
        if not isinstance(levels, Sequence) or isinstance(levels, str) or not levels or not _are_alike(levels):
            faults.append(
                f"{name}.levels={levels}: a list of texts, or of numbers, is wanted; words such as yes and no need "
                "quotes"
            )
            levels = ()
        if kind not in (None, "category"):
            faults.append(f"{name}.levels={levels}: only a column of type category has levels, this one is a {kind}")
        kind = kind or "category"
    date_format = said.get("format")
    if date_format is not None:
        if not _is_date_format(date_format):
            faults.append(f"{name}.format={date_format}: that of a date is wanted, such as '%d/%m/%Y'")
        if kind not in (None, "date"):
            faults.append(f"{name}.format={date_format}: only a column of type date has a format, this one is a {kind}")
        kind = kind or "date"
    texts = {key: "" if said.get(key) is None else str(said[key]) for key in ("unit", "meaning")}
    return ColumnRule(
        kind, texts["unit"], texts["meaning"], low, high, tuple(levels or ()), str(date_format or "")
    ), faults


def _is_date_format(said: Any) -> bool:
    if not isinstance(said, str) or "%" not in said:
        return False
    try:
        pd.to_datetime(pd.Series([""]), format=said, errors="coerce", utc=True)
    except (ValueError, re.error):
        # It has a directive that there is not, or one twice.
        return False
    return True


def _is_range(limits: Any) -> bool:
    if not isinstance(limits, Sequence) or isinstance(limits, str) or len(limits) != 2:
        return False
    ends = [end for end in limits if end is not None]
    return all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends) and ends == sorted(ends)


def _are_alike(levels: Sequence[Any]) -> bool:
    return all(isinstance(level, str) for level in levels) or all(
        isinstance(level, int | float) and not isinstance(level, bool) for level in levels
    )


def parse(cells: pd.Series, rule: ColumnRule, *, missing_words: Collection[str], decimal: str | None) -> Parsed:
    """The values of a column.

    Parameters
    ----------
    cells : Series of shape (n_rows,)
        As `table_file.read` gives them.
    rule : ColumnRule
    missing_words : collection of str
        The texts that mean a missing value; where there are none, no value may be missing.
    decimal : str or None
        The mark before decimals; None takes a comma where a column has numbers with commas and none with points.

    Returns
    -------
    Parsed
        Numbers are floats, and integers where all are written as such, none is missing and no type is said. Categories
        and texts are texts, truth values are bool, or objects where one is missing.
    """
    if not isinstance(cells.dtype, pd.StringDtype):
        typed = _typed(cells, rule)
        if typed is not None:
            return _with_missing(typed, cells.isna(), may_be_missing=bool(missing_words))
        cells = as_texts(cells).astype("str")
    texts = cells.str.strip()
    # An empty cell has no value whatever other words say so; where none does, it is one that may not be missing.
    is_missing = texts.isna() | texts.isin([*missing_words, ""])
    return _parse_texts(texts, is_missing, rule, may_be_missing=bool(missing_words), decimal=decimal)


def _typed(cells: pd.Series, rule: ColumnRule) -> Parsed | None:
    """A column of a Parquet file that has the type that is said; None where it must be read from texts."""
    if is_number(cells) and rule.type in (None, "number"):
        is_whole = cells.dtype.kind in "iu" and not cells.hasnans and (cells <= np.iinfo(np.int64).max).all()
        values = cells.astype("int64" if is_whole and not rule.type else "float64")
        return Parsed(values, "number", _range_faults(values, rule))
    present = cells.dropna()
    # pandas has no type of its own for truth values of which some are missing.
    is_boolean = pd.api.types.is_bool_dtype(cells) or (
        cells.dtype == object and len(present) > 0 and all(isinstance(value, bool) for value in present)
    )
    if is_boolean and rule.type in (None, "boolean"):
        return Parsed(cells.astype(object if cells.hasnans else bool), "boolean", [])
    if pd.api.types.is_datetime64_any_dtype(cells) and rule.type in (None, "date"):
        return Parsed(cells, "date", [])
    if rule.type or is_number(cells) or holds_texts(present):
        return None
    # As texts they can be counted and compared, which lists cannot.
    return Parsed(as_texts(cells).astype("str"), OTHER, [])


def _with_missing(parsed: Parsed, is_missing: pd.Series, *, may_be_missing: bool) -> Parsed:
    rows = np.flatnonzero(is_missing)
    return parsed if may_be_missing or not rows.size else parsed._replace(faults=[(MISSING, rows), *parsed.faults])


def _parse_texts(
    texts: pd.Series, is_missing: pd.Series, rule: ColumnRule, *, may_be_missing: bool, decimal: str | None
) -> Parsed:
    present = texts[~is_missing]
    kind, values = (rule.type, None) if rule.type else _infer(present, decimal)
    if kind == "number" or (kind == "category" and rule.levels and not isinstance(rule.levels[0], str)):
        parsed = _parse_numbers(present, decimal) if values is None else Parsed(values, "number", [])
        if kind == "category":
            parsed = _match_numeric_levels(parsed, rule)
        else:
            parsed = parsed._replace(faults=[*parsed.faults, *_range_faults(parsed.values, rule)])
    elif kind == "boolean":
        parsed = _parse_booleans(present)
    elif kind == "date":
        parsed = _parse_dates(present, rule.format or inferred_format(present))
    else:
        strangers = ~present.isin(rule.levels) if rule.levels else present.isna()
        parsed = Parsed(present, str(kind), [(_levels_rule(rule), np.flatnonzero(strangers))])
    places = np.flatnonzero(~is_missing)
    faults = [(text, places[rows]) for text, rows in parsed.faults if rows.size]
    return _with_missing(
        Parsed(parsed.values.reindex(texts.index), parsed.type, faults), is_missing, may_be_missing=may_be_missing
    )


def _infer(present: pd.Series, decimal: str | None) -> tuple[str, pd.Series | None]:
    """The type of texts, none of them missing, and for numbers their values."""
    numbers = _to_numbers(present, decimal)
    # Leading zeros are those of a code, as of a postal code, which is no quantity.
    if numbers.notna().all() and not present[present.str.startswith("0")].str.fullmatch(r"0\d+").any():
        may_be_whole = len(present) > 0 and bool((numbers % 1 == 0).all())
        is_whole = may_be_whole and present.str.fullmatch(r"[+-]?\d{1,15}").all()
        return "number", numbers.astype("int64") if is_whole else numbers
    if present.str.lower().isin(["true", "false"]).all():
        return "boolean", None
    if present.str.fullmatch(ISO_DATE).all() and not _parse_dates(present, "").faults[0][1].size:
        return "date", None
    if inferred_format(present):
        return "date", None
    different = present.nunique()
    return ("text" if different > max(MIN_TEXT_VALUES, MIN_TEXT_SHARE * len(present)) else "category"), None


def _to_numbers(texts: pd.Series, decimal: str | None) -> pd.Series:
    """The numbers that texts, none of them missing, are; NaN where one is no number."""
    numbers = _cast(texts) if decimal != "," else None
    if numbers is not None and (decimal or numbers.notna().all()):
        return numbers
    has_point = texts.str.contains(".", regex=False)
    with_points = _cast(texts.str.replace(",", ".", regex=False)).mask(has_point)
    # One comma before three digits may as well separate thousands.
    is_decimal = decimal == "," or (with_points.notna().all() and not texts.str.fullmatch(r"[+-]?\d+(?:,\d{3})?").all())
    return with_points if is_decimal or numbers is None else numbers


def _cast(texts: pd.Series) -> pd.Series:
    """Texts as floats, NaN where one is no number in Python's notation."""
    # pyarrow takes a tenth of pandas's time, which stumbles over each word.
    try:
        return pd.Series(pa.compute.cast(pa.array(texts), pa.float64()).to_numpy(), texts.index)
    except pa.ArrowInvalid:
        is_number = texts.str.fullmatch(NUMBER)
    values = np.full(len(texts), np.nan)
    values[is_number.to_numpy()] = pa.compute.cast(pa.array(texts[is_number]), pa.float64()).to_numpy()
    return pd.Series(values, texts.index)


def _parse_numbers(present: pd.Series, decimal: str | None) -> Parsed:
    values = _to_numbers(present, decimal)
    wrong = values.isna()
    with_comma = wrong & present.str.fullmatch(r"[+-]?\d+,\d+") & (decimal != ",")
    return Parsed(
        values,
        "number",
        [(DECIMAL_COMMA, np.flatnonzero(with_comma)), ("no number", np.flatnonzero(wrong & ~with_comma))],
    )


def _range_faults(values: pd.Series, rule: ColumnRule) -> list[tuple[str, npt.NDArray[np.intp]]]:
    outside = (values < rule.low) | (values > rule.high) | np.isinf(values.astype("float64"))
    return [(f"not {rule.range_rule}", np.flatnonzero(outside))] if outside.any() else []


def _match_numeric_levels(parsed: Parsed, rule: ColumnRule) -> Parsed:
    """The texts of the levels that numbers equal."""
    strangers = parsed.values.notna() & ~parsed.values.isin(rule.levels)
    texts = parsed.values.map({float(level): str(level) for level in rule.levels}).astype("str")
    return Parsed(texts, "category", [*parsed.faults, (_levels_rule(rule), np.flatnonzero(strangers))])


def _levels_rule(rule: ColumnRule) -> str:
    return f"not one of {', '.join(map(str, rule.levels))}"


def _parse_booleans(present: pd.Series) -> Parsed:
    lower = present.str.lower()
    is_true, is_false = lower.isin(TRUE_WORDS), lower.isin(FALSE_WORDS)
    return Parsed(is_true, "boolean", [("neither true nor false", np.flatnonzero(~is_true & ~is_false))])


def inferred_format(present: pd.Series) -> str:
    """The format in which texts can be read as dates, where all can in one alone; empty otherwise, and for ISO 8601."""
    if present.empty or not re.fullmatch(OTHER_DATE, present.iloc[0]) or not present.str.fullmatch(OTHER_DATE).all():
        return ""
    different = pd.Series(present.unique())
    fitting = [
        date + time
        for date in DATE_FORMATS
        for time in TIME_FORMATS
        if pd.to_datetime(different, format=date + time, errors="coerce").notna().all()
    ]
    return fitting[0] if len(fitting) == 1 else ""


def _parse_dates(present: pd.Series, date_format: str) -> Parsed:
    # With one clock for all, because some cells may name an offset.
    values = pd.to_datetime(present, format=date_format or "ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
    wanted = f"no date of the format {date_format}" if date_format else "no date; write it as 2024-12-31"
    return Parsed(values, "date", [(wanted, np.flatnonzero(values.isna()))])
