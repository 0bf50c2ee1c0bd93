"""What a row of the prediction log holds, whether it is stored in a folder or in a database.

| column | what | |---|---| | `time` | when it was answered, UTC | | `request_id`, `row` | which request, and which of
its rows, from 0 | | `model`, `version`, `variant` | what predicted: `champion`, or `challenger` where a second version
sees the same rows | | `decision` | of a model of classes: the class that it decides on | | `probability.<class>` | of a
model of classes: one column a class | | `number` | of a model of numbers, with `number.low` and `number.high` where it
gives an interval | | `outside` | names of the inputs outside the training range, separated by a comma and a space;
empty where there are none | | `latency_ms` | from the request's head to its prediction, in milliseconds | |
`input.<name>` | one column an input, as validated; a missing number is NaN, a missing text is missing |
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

CHAMPION, CHALLENGER = "champion", "challenger"

INPUT, PROBABILITY = "input.", "probability."
TIME, REQUEST_ID, ROW, MODEL, VERSION, VARIANT = "time", "request_id", "row", "model", "version", "variant"
DECISION, OUTSIDE, LATENCY = "decision", "outside", "latency_ms"
NUMBER, NUMBER_LOW, NUMBER_HIGH = "number", "number.low", "number.high"
TRUTH, TRUTH_TIME = "truth", "truth_time"

# No name of a feature has a space in it.
OUTSIDE_SEPARATOR = ", "

# What the values of a column are: a time is a number of microseconds since 1970, UTC.
Kind = Literal["time", "text", "number", "integer"]


class Layout(msgspec.Struct, frozen=True):
    """What the rows of one version, or truths, hold.

    Attributes
    ----------
    columns : list of (str, str)
        Name and kind of each value of a row, in its order.
    constants : dict
        The columns that are the same in every row: `model`, `version` and `variant`; empty for truths.
    format : int
        Number of this form, should there ever be another.
    """

    columns: list[tuple[str, Kind]]
    constants: dict[str, str | int] = {}
    format: int = 1

    @property
    def names(self) -> list[str]:
        """The names of the columns that differ between rows."""
        return [name for name, _ in self.columns]

    @property
    def is_truth(self) -> bool:
        """Whether the rows are truths instead of predictions."""
        return not self.constants


# A truth's `time` is when it was received.
TRUTHS = Layout([(TIME, "time"), (REQUEST_ID, "text"), (ROW, "integer"), (TRUTH, "text")])


def predictions_layout(
    model: str,
    version: int,
    inputs: Iterable[tuple[str, bool]],
    *,
    variant: str = CHAMPION,
    classes: Sequence[str] = (),
    has_interval: bool = False,
) -> Layout:
    """What the rows of a version hold.

    Parameters
    ----------
    model : str
        Name of the registered model.
    version : int
    inputs : iterable of (str, bool)
        Each input that is stored, and whether it is a text.
    variant : str
        `champion` or `challenger`.
    classes : sequence of str
        Of a model of classes; empty for one of numbers.
    has_interval : bool
        Whether a model of numbers gives an interval.

    Returns
    -------
    Layout
        A row's values are in the order time, request_id, row, latency_ms, outside; then decision and the probabilities,
        or number and the interval's ends; then the inputs.
    """
    columns: list[tuple[str, Kind]] = [
        (TIME, "time"),
        (REQUEST_ID, "text"),
        (ROW, "integer"),
        (LATENCY, "number"),
        (OUTSIDE, "text"),
    ]
    if classes:
        columns += [(DECISION, "text"), *((f"{PROBABILITY}{name}", "number") for name in classes)]
    else:
        columns += [(name, "number") for name in (NUMBER, *((NUMBER_LOW, NUMBER_HIGH) if has_interval else ()))]
    columns += [(f"{INPUT}{name}", "text" if is_text else "number") for name, is_text in inputs]
    return Layout(columns, {MODEL: model, VERSION: version, VARIANT: variant})


def truth_text(value: Any) -> str:
    """A true value as it is stored: a class as the schema spells it, or a number that float() gives back to the bit.

    A whole number has no decimals, whether it came as a number or as a text, so that 5.0 is the class 5.
    """
    if isinstance(value, str):
        text = value.strip()
        head, point, decimals = text.partition(".")
        is_whole = point and decimals and not decimals.strip("0") and head.removeprefix("-").isdecimal()
        return head if is_whole else text
    if isinstance(value, bool):
        return str(value)
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)
