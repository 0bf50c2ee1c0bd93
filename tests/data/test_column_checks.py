"""What is said of columns that look wrong."""

import numpy as np
import pandas as pd
import pytest

from wineexp.data.column_checks import Finding, find_all

N_ROWS = 40
NUMBERS = "numbers the rows, from 0 to 39"
MIXED = np.random.default_rng(0).permutation(N_ROWS)


def test_columns_that_say_the_same_are_found() -> None:
    rng = np.random.default_rng(1)
    # Each value of one measurement goes with one of the other, since none is there twice.
    length, weight = rng.normal(size=(2, N_ROWS))
    length[:3] = weight[:3] = np.nan
    plan = pd.Series(["pro", "free"] * (N_ROWS // 2))
    X = pd.DataFrame({"length": length, "weight": weight, "again": weight, "plan": plan, "code": plan.map(len)})
    findings = {finding.column: finding.text for finding in find_all(X, None)}
    says = "says the same as {}: each value of one goes with one of the other"
    assert findings == {"again": says.format("weight"), "code": says.format("plan")}


@pytest.mark.parametrize(
    ("name", "values", "text", "is_to_drop"),
    [
        ("Unnamed:_0", np.arange(N_ROWS), NUMBERS, True),
        ("row", np.arange(N_ROWS)[::-1], NUMBERS, True),
        # A table that was shuffled, and one of two files, with the index that pandas wrote.
        ("Unnamed:_0.1", MIXED, NUMBERS, True),
        ("column_1", np.arange(N_ROWS) % 20, "numbers the rows, from 0 to 19", True),
        ("rank", MIXED, "has 40 different values in 40 rows; drop it if it names them", False),
        ("customer_id", MIXED * 7, "has 40 different values in 40 rows; it names the rows", True),
        ("column_2", np.arange(N_ROWS) % 3, None, False),
        (
            "day",
            pd.date_range("2024-01-01", periods=N_ROWS).strftime("%d/%m/%Y"),
            "holds dates as texts, '01/01/2024', '02/01/2024', '03/01/2024', ...; write them as 2024-12-31, or say "
            "their format, columns: {NAME: {format: '%d/%m/%Y'}}",
            True,
        ),
        (
            "answer",
            ["Yes", "no", "maybe", "yes", "not  now", "not now"] * 6 + ["no"] * 4,
            "has values that differ only by case or spaces, 'not  now', 'not now', 'Yes', ...; spell alike what means "
            "the same",
            False,
        ),
        ("answer", ["yes", "no"] * 20, None, False),
    ],
)
def test_a_column_that_looks_wrong_is_described(name: str, values: object, text: str | None, is_to_drop: bool) -> None:
    findings = list(find_all(pd.DataFrame({name: values}), None))
    assert findings == ([] if text is None else [Finding(name, text, is_to_drop)])
