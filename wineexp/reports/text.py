"""Numbers and names as people write them."""

import math
from datetime import UTC, datetime

MINUS, SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
DASH = "\N{EN DASH}"


def words(name: object) -> str:
    """A name without its underscores."""
    return str(name).replace("_", " ")


def number(value: float) -> str:
    """Four figures, or whole thousands."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", MINUS)


def exact(value: float) -> str:
    """Every digit that was measured."""
    return f"{value:,.12g}".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 in per cent."""
    return f"{100 * share:.{digits}f}{SPACE}%"


def listed(items: list[str]) -> str:
    """One, two and three."""
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)


def figure(value: float | None, spread: float | None = None) -> str:
    """A metric to four decimals, with its spread where there is one; a dash for none."""
    if value is None or math.isnan(value):
        return DASH
    text = f"{value:.4f}".replace("-", MINUS)
    return text if spread is None or math.isnan(spread) else f"{text} ± {spread:.4f}"


def seconds(value: float | None) -> str:
    """A length of time in ms or s."""
    if value is None:
        return DASH
    return f"{1000 * value:.3g} ms" if value < 0.9995 else f"{value:,.1f} s"


def size(value: float | None) -> str:
    """A number of bytes in kB or MB."""
    if value is None:
        return DASH
    return f"{value / 1e3:,.0f} kB" if value < 1e6 else f"{value / 1e6:,.1f} MB"


def date(milliseconds: int | None) -> str:
    """A moment, given in milliseconds since the epoch, to the minute."""
    if milliseconds is None:
        return DASH
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
