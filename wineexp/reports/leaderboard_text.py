"""Rankings as text: tables for a reader, CSV and JSON for whatever comes next."""

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
from wineexp.reports.text import figure, seconds, size, words
from wineexp.tracking.ranking import Ranking, Row
from wineexp.tracking.runs import SHORT_ID

log = logging.getLogger(__name__)

# Characters of a run's name in a table.
NAME = 24
# Blocks of columns, one below the other, before the rest is left to the other formats.
BLOCKS = 2
# Blanks between two columns.
GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading and its cells."""

    title: str
    cells: list[str]
    justify: Any = "right"

    @property
    def width(self) -> int:
        """Characters that it takes, the gap before the next one included."""
        return max(map(len, [self.title, *self.cells])) + GAP


def table(rankings: list[Ranking], left_out: dict[str, int]) -> None:
    """Print each ranking as a table that fits the terminal, in two blocks where it is narrow."""
    console = Console(highlight=False)
    dropped = False
    for ranking in rankings:
        blocks, whole = _blocks(_columns(ranking), console.width)
        dropped |= not whole
        console.print(Text(ranking.title, "bold"), Text(leaderboard_summary.subtitle(ranking)), "", sep="\n")
        for block in blocks:
            shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
            for column in block:
                shown.add_column(column.title, justify=column.justify, no_wrap=True)
            for cells in zip(*(column.cells for column in block), strict=True):
                shown.add_row(*map(Text, cells))
            console.print(shown, "")
        console.print(Text(leaderboard_summary.caveat(ranking)), "", sep="\n")
    if dropped:
        console.print(Text("More metrics in a wider terminal, and with format=csv, json or html."))
    if left_out:
        console.print(Text(leaderboard_summary.omissions(left_out)))


def csv(rankings: list[Ranking], left_out: dict[str, int]) -> None:
    """Print all rankings as one CSV table, one row a run; what was left out goes to the log."""
    frame = pd.DataFrame(
        [
            {**_question(ranking), **{key: value for key, value in facts.items() if not isinstance(value, dict)}}
            | {f"cv/{name}": value for name, value in facts["metrics"].items()}
            for ranking in rankings
            for facts in (_facts(ranking, row) for row in ranking.rows)
        ]
    )
    frame["rank"] = frame["rank"].astype("Int64")
    frame.to_csv(sys.stdout, index=False)
    if left_out:
        log.warning(leaderboard_summary.omissions(left_out))


def as_json(rankings: list[Ranking], left_out: dict[str, int]) -> None:
    """Print all rankings as JSON, in which NaN is null."""
    told = {
        "rankings": [
            {
                **_question(ranking),
                "ranked": len(ranking.records),
                "alpha": ranking.alpha,
                "runs": [_facts(ranking, row) for row in ranking.rows],
            }
            for ranking in rankings
        ],
        "left_out": left_out,
    }
    print(json.dumps(_without_nan(told), indent=2, allow_nan=False))


FORMS: dict[str, Callable[[list[Ranking], dict[str, int]], None]] = {"table": table, "csv": csv, "json": as_json}


def _columns(ranking: Ranking) -> list[Column]:
    """Every column of a ranking's table, the most telling first."""
    rows = ranking.rows
    return [
        Column("#", [str(row.rank or "") for row in rows]),
        Column("id", [row.record.id[:SHORT_ID] for row in rows], "left"),
        Column("run", [_shortened(row.record.name) for row in rows], "left"),
        Column(words(ranking.metric), [figure(row.score, row.spread) for row in rows]),
        Column("against the best", [row.verdict for row in rows], "left"),
        Column(
            f"difference ({leaderboard_summary.level(ranking)} interval)",
            [leaderboard_summary.difference(row) for row in rows],
            "left",
        ),
        Column("holdout", [figure(row.holdout) for row in rows]),
        Column("fit", [seconds(row.figure("cv/fit_seconds")) for row in rows]),
        Column("predict", [seconds(row.figure("cv/predict_seconds")) for row in rows]),
        Column("size", [size(row.figure("model/bytes")) for row in rows]),
        *(
            Column(words(name), [figure(row.figure(f"cv/{name}"), row.figure(f"cv/{name}_std")) for row in rows])
            for name in ranking.others
        ),
    ]


def _blocks(columns: list[Column], width: int) -> tuple[list[list[Column]], bool]:
    """Columns in blocks that fit a width, each begun by rank and id; and whether all found room."""
    keys, rest = columns[:2], columns[2:]
    blocks = [list(keys)]
    for column in rest:
        if len(blocks[-1]) > len(keys) and sum(each.width for each in [*blocks[-1], column]) - GAP > width:
            if len(blocks) == BLOCKS:
                return blocks, False
            blocks.append(list(keys))
        blocks[-1].append(column)
    return blocks, True


def _shortened(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _question(ranking: Ranking) -> dict[str, Any]:
    """What a ranking is of."""
    first = ranking.first
    return {
        **{name: first.params.get(name) for name in ("data", "target", "split")},
        "data.md5": first.tags["data.md5"],
        "split.sha256": first.tags["split.sha256"],
        "metric": ranking.metric,
        "direction": ranking.direction,
    }


def _facts(ranking: Ranking, row: Row) -> dict[str, Any]:
    """All that is known of a run, `metrics` a mapping: the other metrics' means and spreads."""
    told = row.comparison
    return {
        "rank": row.rank,
        "run": row.record.name,
        "id": row.record.id,
        "score": row.score,
        "spread": row.spread,
        "folds": row.n_folds,
        "verdict": row.verdict,
        **{name: getattr(told, name, None) for name in ("difference", "low", "high", "p_value")},
        "holdout": row.holdout,
        "fit_seconds": row.figure("cv/fit_seconds"),
        "predict_seconds": row.figure("cv/predict_seconds"),
        "model_bytes": row.figure("model/bytes"),
        "metrics": {key: row.figure(f"cv/{key}") for name in ranking.others for key in (name, f"{name}_std")},
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
