"""Dates as a model takes them: days since 1970-01-01 in UTC, the time of day as their fraction, and their parts."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    # A server takes dates without pandas.
    import pandas as pd

UNIT = "days since 1970-01-01"

# The parts of a date, in this order; Monday is 0, and the hour has a fraction.
PARTS = ("year", "month", "day", "day_of_week", "day_of_year", "hour")

MICROSECONDS_PER_DAY = 86_400_000_000
# Of the years 1 and 9999, beyond which no date has a text.
FIRST_DAY, LAST_DAY = -719_162.0, 2_932_896.0

_EPOCH = datetime(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


def days(dates: "pd.Series") -> npt.NDArray[np.float64]:
    """The days of points in time, of shape (n_samples,), with or without a time zone; NaN where one is missing."""
    utc = dates.dt.tz_convert(None) if dates.dt.tz is not None else dates
    microseconds = utc.to_numpy("datetime64[us]").astype(np.int64)
    return np.where(dates.isna(), np.nan, microseconds / MICROSECONDS_PER_DAY)


def days_of_text(text: str) -> float | None:
    """The days of a date in ISO 8601, such as `2024-12-31` or `2024-12-31T18:00+01:00`; None where it is none."""
    try:
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if date.tzinfo is not None:
        date = date.astimezone(UTC).replace(tzinfo=None)
    return (date - _EPOCH) // _MICROSECOND / MICROSECONDS_PER_DAY


def parts(since_epoch: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The `PARTS` of days, of shape (n_samples, n_parts) for days of shape (n_samples,); NaN where they are."""
    known = np.clip(np.where(np.isnan(since_epoch), 0, since_epoch), FIRST_DAY, LAST_DAY)
    whole = np.floor(known)
    dates = whole.astype(np.int64).astype("datetime64[D]")
    years, months = dates.astype("datetime64[Y]"), dates.astype("datetime64[M]")
    columns = [
        years.astype(np.int64) + 1970,
        months.astype(np.int64) % 12 + 1,
        (dates - months).astype(np.int64) + 1,
        # 1970-01-01 was a Thursday.
        (whole + 3) % 7,
        (dates - years).astype(np.int64) + 1,
        (known - whole) * 24,
    ]
    values = np.column_stack(columns).astype(np.float64)
    values[np.isnan(since_epoch)] = np.nan
    return values
