"""Numbers, names and lists as text for readers."""

import math
from datetime import UTC, datetime

MINUS, NO_BREAK_SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
# Stands where there is no value.
DASH = "\N{EN DASH}"


def spaced(name: object) -> str:
    """A name with blanks instead of underscores."""
    return str(name).replace("_", " ")


def number(value: float) -> str:
    """A number in four digits, or from 1,000 on in whole units."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", MINUS)


def exact(value: float) -> str:
    """A number with every digit that was measured."""
    return f"{value:,.12g}".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(value: float, low: float, high: float) -> str:
    """A signed number to four decimals with its confidence interval in brackets."""
    return f"{signed(value, 4)} ({signed(low, 4)} to {signed(high, 4)})"


def percent(share: float, digits: int = 1) -> str:
    """A share from 0 to 1 in per cent."""
    return f"{100 * share:.{digits}f}{NO_BREAK_SPACE}%"


def enumeration(items: list[str]) -> str:
    """Items with commas between them and `and` before the last."""
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)


def decimals(value: float | None, deviation: float | None = None) -> str:
    """A metric to four decimals, with its standard deviation where there is one; a dash for None or NaN."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:.4f}".replace("-", MINUS)
    return text if deviation is None or math.isnan(deviation) else f"{text} ± {deviation:.4f}"


def duration(seconds: float | None) -> str:
    """A duration in ms or s; a dash for None."""
    if seconds is None:
        return DASH
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:,.1f} s"


def file_size(n_bytes: float | None) -> str:
    """A number of bytes in kB or MB; a dash for None."""
    if n_bytes is None:
        return DASH
    return f"{n_bytes / 1e3:,.0f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:,.1f} MB"


def timestamp(milliseconds: int | None) -> str:
    """A time, given in milliseconds since the epoch, to the minute; a dash for None."""
    if milliseconds is None:
        return DASH
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
