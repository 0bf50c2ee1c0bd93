"""From pinned bytes to a task: tables, schema, target, split."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The callable `table` of data sets' configs, imported at its first use: a server reads schemas without pandas."""
    if name == "table":
        from wineexp.data.datasets import table

        return table
    raise AttributeError(f"module 'wineexp.data' has no attribute {name!r}")
