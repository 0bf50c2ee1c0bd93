"""Rankings on standard output: as tables for a terminal, as CSV and as JSON."""

import json
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wineexp.reports import leaderboard_summary
from wineexp.reports.text import decimals, duration, file_size, spaced
from wineexp.tracking import names
from wineexp.tracking.ranking import Ranking, Row
from wineexp.tracking.runs import SHORT_ID

log = logging.getLogger(__name__)

MAX_NAME_CHARS = 24
# A ranking that is wider than the terminal is printed as this many tables at most, one below the other.
MAX_BLOCKS = 2
# Blanks between two columns.
GAP_CHARS = 2


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, its cells and how rich aligns them."""

    heading: str
    cells: list[str]
    justify: Any = "right"

    @property
    def width(self) -> int:
        """Characters that the column takes, including the gap before the next one."""
        return max(map(len, [self.heading, *self.cells])) + GAP_CHARS


def print_tables(rankings: list[Ranking], left_out: dict[str, int]) -> None:
    """Print each ranking as a table that fits the terminal, or as two where the terminal is narrow."""
    console = Console(highlight=False)
    columns_are_missing = False
    for ranking in rankings:
        blocks, complete = _blocks(_columns(ranking), console.width)
        columns_are_missing |= not complete
        console.print(Text(ranking.title, "bold"), Text(leaderboard_summary.subtitle(ranking)), "", sep="\n")
        for block in blocks:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
            for column in block:
                table.add_column(column.heading, justify=column.justify, no_wrap=True)
            for cells in zip(*(column.cells for column in block), strict=True):
                table.add_row(*map(Text, cells))
            console.print(table, "")
        console.print(Text(leaderboard_summary.caveat(ranking)), "", sep="\n")
    if columns_are_missing:
        console.print(Text("More metrics in a wider terminal, and with format=csv, json or html."))
    if left_out:
        console.print(Text(leaderboard_summary.omissions(left_out)))


def print_csv(rankings: list[Ranking], left_out: dict[str, int]) -> None:
    """Print all rankings as one CSV table with a row for each run; what was left out is logged."""
    frame = pd.DataFrame(
        [
            _task(ranking)
            | {key: value for key, value in fields.items() if key != "metrics"}
            | {f"cv/{name}": value for name, value in fields["metrics"].items()}
            for ranking in rankings
            for fields in (_fields(ranking, row) for row in ranking.rows)
        ]
    )
    frame["rank"] = frame["rank"].astype("Int64")
    frame.to_csv(sys.stdout, index=False)
    if left_out:
        log.warning(leaderboard_summary.omissions(left_out))


def print_json(rankings: list[Ranking], left_out: dict[str, int]) -> None:
    """Print all rankings as JSON; NaN becomes null."""
    content = {
        "rankings": [
            {
                **_task(ranking),
                "ranked": len(ranking.records),
                "alpha": ranking.alpha,
                "runs": [_fields(ranking, row) for row in ranking.rows],
            }
            for ranking in rankings
        ],
        "left_out": left_out,
    }
    print(json.dumps(_without_nan(content), indent=2, allow_nan=False))


# The values of `format` in the config that this module prints.
PRINTERS: dict[str, Callable[[list[Ranking], dict[str, int]], None]] = {
    "table": print_tables,
    "csv": print_csv,
    "json": print_json,
}


def _columns(ranking: Ranking) -> list[Column]:
    """All columns of a ranking's table, the most important first."""
    rows = ranking.rows
    return [
        Column("#", [str(row.rank or "") for row in rows]),
        Column("id", [row.record.id[:SHORT_ID] for row in rows], "left"),
        Column("run", [_shortened(row.record.name) for row in rows], "left"),
        Column(spaced(ranking.metric), [decimals(row.score, row.spread) for row in rows]),
        Column("against the best", [row.verdict for row in rows], "left"),
        Column(
            f"difference ({leaderboard_summary.confidence_level(ranking)} interval)",
            [leaderboard_summary.difference(row) for row in rows],
            "left",
        ),
        Column("holdout", [decimals(row.holdout) for row in rows]),
        Column("fit", [duration(row.figure("cv/fit_seconds")) for row in rows]),
        Column("predict", [duration(row.figure("cv/predict_seconds")) for row in rows]),
        Column("size", [file_size(row.figure(names.MODEL_BYTES)) for row in rows]),
        *(
            Column(spaced(name), [decimals(row.figure(f"cv/{name}"), row.figure(f"cv/{name}_std")) for row in rows])
            for name in ranking.others
        ),
    ]


def _blocks(columns: list[Column], width: int) -> tuple[list[list[Column]], bool]:
    """Columns in blocks that fit a width, each starting with rank and id; and whether all columns have a place."""
    keys, others = columns[:2], columns[2:]
    blocks = [list(keys)]
    for column in others:
        if len(blocks[-1]) > len(keys) and sum(each.width for each in [*blocks[-1], column]) - GAP_CHARS > width:
            if len(blocks) == MAX_BLOCKS:
                return blocks, False
            blocks.append(list(keys))
        blocks[-1].append(column)
    return blocks, True


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"{name[: MAX_NAME_CHARS - 1]}…"


def _task(ranking: Ranking) -> dict[str, Any]:
    """The data, target, split and metric that all runs of a ranking share."""
    first = ranking.first
    return {
        **{name: first.params.get(name) for name in ("data", "target", "split")},
        "data.md5": first.tags[names.DATA_MD5],
        "split.sha256": first.tags[names.SPLIT_SHA256],
        "metric": ranking.metric,
        "direction": ranking.direction,
    }


def _fields(ranking: Ranking, row: Row) -> dict[str, Any]:
    """Everything about a run; `metrics` maps the other metrics' names to means and deviations."""
    return {
        "rank": row.rank,
        "run": row.record.name,
        "id": row.record.id,
        "score": row.score,
        "spread": row.spread,
        "folds": row.n_folds,
        "verdict": row.verdict,
        **{name: getattr(row.comparison, name, None) for name in ("difference", "low", "high", "p_value")},
        "holdout": row.holdout,
        "fit_seconds": row.figure("cv/fit_seconds"),
        "predict_seconds": row.figure("cv/predict_seconds"),
        "model_bytes": row.figure(names.MODEL_BYTES),
        "metrics": {key: row.figure(f"cv/{key}") for name in ranking.others for key in (name, f"{name}_std")},
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
