"""Why a pipeline cannot be compiled."""

from typing import Any


class CannotCompileError(Exception):
    """A pipeline cannot be compiled; the message says which part, and why."""


def require(condition: bool, part: Any) -> None:
    """Refuse a part of a pipeline unless a condition holds.

    Raises
    ------
    CannotCompileError
        It does not hold.
    """
    if not condition:
        raise CannotCompileError(f"a {type(part).__name__} with its settings cannot be compiled")
