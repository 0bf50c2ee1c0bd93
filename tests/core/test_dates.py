"""Dates as numbers: the same from a table and from a text, and their parts."""

import numpy as np
import pandas as pd
import pytest

from wineexp.core.dates import FIRST_DAY, LAST_DAY, PARTS, days, days_of_text, parts

TEXTS = [
    "1970-01-01",
    "2024-02-29",
    "1969-12-31T23:59:59.999999",
    "2024-12-31T18:00:00.123456",
    "2024-12-31T18:00+05:30",
    "0001-01-01",
    "9999-12-31",
]


def test_a_text_is_the_same_number_as_in_a_table() -> None:
    column = pd.Series(
        [pd.Timestamp(text).tz_localize("UTC") if "+" not in text else pd.Timestamp(text) for text in TEXTS]
    )
    utc = pd.to_datetime(column, utc=True)
    expected = [days_of_text(text) for text in TEXTS]
    assert days(utc).tolist() == expected
    assert days(utc.dt.tz_localize(None).dt.as_unit("us")).tolist() == expected
    assert (expected[0], expected[-2], expected[-1]) == (0, FIRST_DAY, LAST_DAY)
    assert np.isnan(days(pd.Series([None], dtype="datetime64[us]"))).all()


@pytest.mark.parametrize("text", ["", "31/12/2024", "2024-13-01", "yesterday", "19000"])
def test_another_text_is_no_date(text: str) -> None:
    assert days_of_text(text) is None


def test_the_parts_are_those_of_the_calendar() -> None:
    times = pd.Series(pd.date_range("1899-12-30T05:30", "2101-03-02", periods=5000)).dt.floor("min")
    calendar = times.dt
    expected = [
        *(calendar.year, calendar.month, calendar.day, calendar.day_of_week, calendar.day_of_year),
        calendar.hour + calendar.minute / 60,
    ]
    assert len(expected) == len(PARTS)
    np.testing.assert_allclose(parts(days(times)), np.column_stack(expected), rtol=0, atol=1e-6)
    assert np.isnan(parts(np.array([np.nan]))).all()
    # What no date is, a server may be sent as a number.
    assert parts(np.array([1e300, -1e300]))[:, 0].tolist() == [9999, 1]
