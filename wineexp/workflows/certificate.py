"""A certificate of reproduction: what was recorded, what is now, and whether they are the same to the last bit."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from wineexp.data.task import HOLDOUT

# Facts that have a say in a figure; `libraries` come apart into one fact each.
BINDING = ("git.commit", "git.diff.sha256", "data.md5", "lock.sha256", "python.version")
# Facts that must have none.
MACHINE = ("machine.platform", "machine.processor", "machine.cores")

# Of a tree whose code is its commit's.
NO_DIFF = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Line:
    """A fact or a figure on both sides, as text that tells every bit of it; None where there is none.

    Python's shortest text of a number is another one for every other number, and the same for every NaN.
    """

    name: str
    recorded: str | None
    now: str | None

    @property
    def equal(self) -> bool:
        """Whether both sides are there, and are the same."""
        return self.recorded is not None and self.recorded == self.now

    def __str__(self) -> str:
        return f"{self.name}: recorded {self.recorded or 'nothing'}, now {self.now or 'nothing'}"


@dataclass(frozen=True)
class Certificate:
    """What a reproduction showed.

    Attributes
    ----------
    run, name, store : str
        Which run, and where it is recorded.
    facts, machine : list of Line
        Where the run came from: what can change a figure, and what must not.
    figures : list of Line
        Scores, and the answers of each fold together.
    compared, differing : int
        How many single figures there were on either side, and how many of them differ.
    first : Line or None
        The first single figure that differs, in the order of folds and rows.
    notes : list of str
        What was not compared, and why.
    """

    run: str
    name: str
    store: str
    facts: list[Line]
    machine: list[Line]
    figures: list[Line]
    compared: int
    differing: int
    first: Line | None
    notes: list[str]

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.first is None:
            return f"Reproduced: {self.compared} figures compared, all of them equal bit for bit."
        return f"Not reproduced: {self.differing} of {self.compared} figures differ; the first is {self.first}"

    def text(self) -> str:
        """The whole of it, to be read by people."""
        parts = [
            f"Certificate of reproduction\nrun {self.run} ({self.name}) in {self.store}",
            _columns("fact", self.facts),
            _columns("machine, for information", self.machine),
            _columns("figure", self.figures),
            *self.notes,
            self.verdict,
        ]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """The whole of it, to be read by programs; figures are text, so that none loses a bit on the way."""
        content: dict[str, Any] = asdict(self) | {"reproduced": self.first is None, "verdict": self.verdict}
        for part in ("facts", "machine", "figures"):
            content[part] = [asdict(line) | {"equal": line.equal} for line in getattr(self, part)]
        return json.dumps(content, indent=1) + "\n"


def _columns(title: str, lines: list[Line]) -> str:
    told = {True: "yes", False: "NO"}
    rows = [
        (title, "recorded", "now", "equal"),
        *((line.name, _short(line.recorded), _short(line.now), told[line.equal]) for line in lines),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _short(side: str | None) -> str:
    """What a column has room for: of a long digest its beginning; the JSON has all of it."""
    return "-" if side is None else re.sub("^([0-9a-f]{16})[0-9a-f]{17,}$", r"\1…", side)


def facts(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[Line], list[Line]]:
    """The binding facts and the machine's, from a run's tags and from those that a run would get here.

    Trees without a diff are of their commit's code, whatever else lies about in them; without git, nobody knows.
    """
    sides: list[dict[str, str]] = []
    for tags in (recorded, now):
        side = {**tags, **_libraries(tags)}
        if "git.commit" in tags and tags.get("git.diff.sha256", NO_DIFF) == NO_DIFF:
            side["git.diff.sha256"] = "no diff"
        sides.append(side)
    libraries = sorted({name for side in sides for name in side if name.startswith("library ")})
    binding, machine = (
        [Line(name, sides[0].get(name), sides[1].get(name)) for name in names]
        for names in ((*BINDING, *libraries), MACHINE)
    )
    return binding, machine


def _libraries(tags: Mapping[str, str]) -> dict[str, str]:
    try:
        return {f"library {name}": str(version) for name, version in json.loads(tags["libraries"]).items()}
    except (KeyError, ValueError, AttributeError):
        return {}


@dataclass(frozen=True)
class Side:
    """What one of the two trainings gave.

    Attributes
    ----------
    scores : dict of str to list of float
        Each metric by its name in the record: `fold/accuracy` has one value a fold, `cv/accuracy` one.
    answers : DataFrame or None
        As `Task.predictions_table` makes it.
    split : str or None
        Fingerprint of the rows of the holdout and of the folds.
    """

    scores: Mapping[str, list[float]]
    answers: pd.DataFrame | None
    split: str | None


def compare(recorded: Side, now: Side, *, n_folds: int) -> tuple[list[Line], list[Line], int]:
    """Hold two trainings against each other.

    Parameters
    ----------
    recorded, now : Side
        Predictions are compared where there are some on both sides.
    n_folds : int
        Of the whole cross-validation.

    Returns
    -------
    figures : list of Line
        Scores one by one, and one line for all answers of a fold: their number and the digest of their text.
    differing : list of Line
        The single figures that differ: fold by fold, the fold's scores and then its rows, the holdout, the means.
    compared : int
        How many single figures were compared.
    """
    figures, differing, compared = [Line("split.sha256", recorded.split, now.split)], [], 1
    differing += [line for line in figures if not line.equal]
    rows = _rows(recorded.answers, now.answers)
    answered = set() if rows is None else set(rows[0].index.get_level_values("fold"))
    # The holdout stands for itself below any fold's number, and is told last.
    scored = range(max(n_folds, *map(len, recorded.scores.values())))
    for fold in (*sorted({*scored, *answered} - {HOLDOUT}), HOLDOUT):
        title, name, step = f"fold {fold + 1}/{n_folds}", "fold/", fold
        if fold == HOLDOUT:
            title, name, step = "holdout", "holdout/", 0
        scores = list(_scores(recorded, now, name, step, title))
        figures += scores
        differing += [line for line in scores if not line.equal]
        compared += len(scores)
        if rows is not None and fold in answered:
            sides: list[Any] = [side.xs(fold, level="fold") for side in rows]
            figures.append(Line(f"{title} answers", *map(_digest, sides)))
            differing += _cells(title, *sides)
            compared += sides[0].size
    means = list(_scores(recorded, now, "cv/", 0, "cv"))
    return figures + means, differing + [line for line in means if not line.equal], compared + len(means)


def _scores(recorded: Side, now: Side, prefix: str, step: int, title: str) -> Iterator[Line]:
    """One step of every metric below a prefix that was recorded, in the order in which they are computed."""
    for name in sorted(recorded.scores, key=[*now.scores, *recorded.scores].index):
        if name.startswith(prefix):
            both = [side.scores.get(name, [])[step : step + 1] for side in (recorded, now)]
            if any(both):
                yield Line(
                    f"{title} {name.removeprefix(prefix)}", *(repr(value[0]) if value else None for value in both)
                )


def _rows(recorded: pd.DataFrame | None, now: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Both tables as text, with the same rows and columns in the same order; empty text where a side has no such."""
    if recorded is None or now is None:
        return None
    tables = []
    for table in (recorded, now):
        keys = table[["fold", "row"]]
        # A splitter may draw a row twice for one fold.
        keys = keys.assign(time=keys.groupby(["fold", "row"]).cumcount())
        text = pd.DataFrame(
            {name: [repr(value) for value in table[name].tolist()] for name in table if name not in keys}
        )
        tables.append(text.set_axis(pd.MultiIndex.from_frame(keys)))
    index = tables[1].index.union(tables[0].index, sort=False)
    columns = tables[1].columns.union(tables[0].columns, sort=False)
    first, second = (table.reindex(index=index, columns=columns, fill_value="") for table in tables)
    return first, second


def _digest(answers: pd.DataFrame) -> str:
    kept = answers[(answers != "").any(axis=1)]
    return f"{len(kept)} rows {hashlib.sha256(kept.to_csv().encode()).hexdigest()[:16]}"


def _cells(title: str, recorded: pd.DataFrame, now: pd.DataFrame) -> Iterator[Line]:
    for position, column in zip(*(recorded != now).to_numpy().nonzero(), strict=True):
        row, _ = recorded.index[position]
        both: list[Any] = [side.iat[position, column] or None for side in (recorded, now)]
        yield Line(f"{title} row {row} {recorded.columns[column]}", *both)
