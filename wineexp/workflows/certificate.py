"""A certificate of reproduction: the recorded values beside those of now, and whether they are equal bit for bit."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from wineexp.data.task import HOLDOUT_FOLD
from wineexp.tracking import names

# Tags that can change a score; `libraries` is compared library by library. The first two are of a git checkout; other
# projects have `code.sha256` in their place.
ORIGIN_TAGS = (names.GIT_COMMIT, names.GIT_DIFF_SHA256, names.DATA_MD5, names.LOCK_SHA256, names.PYTHON_VERSION)
# Tags that must not change a score.
MACHINE_TAGS = (names.MACHINE_PLATFORM, names.MACHINE_PROCESSOR, names.MACHINE_CORES)

EMPTY_DIFF_SHA256 = hashlib.sha256(b"").hexdigest()

# A longer digest is cut to its beginning in the text; the JSON has all of it.
SHOWN_DIGEST_CHARS = 16


@dataclass(frozen=True)
class Pair:
    """A value as it was recorded and as it is now, both as text; None where there is none.

    Python's shortest text of a number tells every bit of it: no two numbers share one, and every NaN has the same.
    """

    name: str
    recorded: str | None
    now: str | None

    @property
    def equal(self) -> bool:
        """Whether both are there and are the same."""
        return self.recorded is not None and self.recorded == self.now

    def __str__(self) -> str:
        return f"{self.name}: recorded {self.recorded or 'nothing'}, now {self.now or 'nothing'}"


@dataclass(frozen=True)
class Certificate:
    """What a reproduction found.

    Attributes
    ----------
    run, name, store : str
        The run's id and name, and the store that it is recorded in.
    origin, machine : list of Pair
        Where the run came from: what can change a score, and what must not.
    values : list of Pair
        Scores, and one digest for the predictions of each fold.
    n_compared, n_differing : int
        How many single values there were on either side, and how many of them differ.
    first_difference : Pair or None
        The first single value that differs, in the order of folds and rows.
    notes : list of str
        What was not compared, and why.
    """

    run: str
    name: str
    store: str
    origin: list[Pair]
    machine: list[Pair]
    values: list[Pair]
    n_compared: int
    n_differing: int
    first_difference: Pair | None
    notes: list[str]

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.first_difference is None:
            return f"Reproduced: {self.n_compared} values compared, all of them equal bit for bit."
        return (
            f"Not reproduced: {self.n_differing} of {self.n_compared} values differ; the first is "
            f"{self.first_difference}"
        )

    def text(self) -> str:
        """The certificate as plain text."""
        parts = [
            f"Certificate of reproduction\nrun {self.run} ({self.name}) in {self.store}",
            _table("origin", self.origin),
            _table("machine, for information", self.machine),
            _table("value", self.values),
            *self.notes,
            self.verdict,
        ]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """The certificate as JSON; numbers are text, so that no bit is lost."""
        content: dict[str, Any] = asdict(self)
        content |= {"reproduced": self.first_difference is None, "verdict": self.verdict}
        for part in ("origin", "machine", "values"):
            content[part] = [asdict(pair) | {"equal": pair.equal} for pair in getattr(self, part)]
        return json.dumps(content, indent=1) + "\n"


def _table(title: str, pairs: list[Pair]) -> str:
    rows = [
        (title, "recorded", "now", "equal"),
        *((pair.name, _shown(pair.recorded), _shown(pair.now), "yes" if pair.equal else "NO") for pair in pairs),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _shown(value: str | None) -> str:
    digest = rf"^([0-9a-f]{{{SHOWN_DIGEST_CHARS}}})[0-9a-f]{{17,}}$"
    return "-" if value is None else re.sub(digest, r"\1…", value)


def compare_origins(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[list[Pair], list[Pair]]:
    """Compare the tags of a run with those that a run would get now.

    Returns
    -------
    origin, machine : list of Pair
        What can change a score, and what must not. Of a tree whose code is that of its commit the diff is `no diff`,
        whatever other files it has. What neither a run nor this project has, a commit or a lock, is not compared.
    """
    both: list[dict[str, str]] = []
    for tags in (recorded, now):
        expanded = {**tags, **_library_tags(tags)}
        if names.GIT_COMMIT in tags and tags.get(names.GIT_DIFF_SHA256, EMPTY_DIFF_SHA256) == EMPTY_DIFF_SHA256:
            expanded[names.GIT_DIFF_SHA256] = "no diff"
        both.append(expanded)
    known = {name for tags in both for name in tags}
    code = ORIGIN_TAGS if names.GIT_COMMIT in known else (names.CODE_SHA256, *ORIGIN_TAGS[2:])
    origin_tags = [name for name in code if name != names.LOCK_SHA256 or name in known]
    more = sorted(name for name in known if name.startswith(("library ", names.MODULE_PREFIX)))
    more = [name for name in (*names.CARD_TAGS, names.DASK_WORKERS) if any(name in tags for tags in both)] + more
    origin, machine = (
        [Pair(name, both[0].get(name), both[1].get(name)) for name in group]
        for group in ((*origin_tags, *more), MACHINE_TAGS)
    )
    return origin, machine


def _library_tags(tags: Mapping[str, str]) -> dict[str, str]:
    try:
        return {f"library {name}": str(version) for name, version in json.loads(tags[names.LIBRARIES]).items()}
    except (KeyError, ValueError, AttributeError):
        return {}


@dataclass(frozen=True)
class TrainingResult:
    """What one of the two trainings gave.

    Attributes
    ----------
    scores : dict of str to list of float
        Each metric by its recorded name: `fold/accuracy` has one value for each fold, `cv/accuracy` one.
    predictions : DataFrame or None
        As `Task.predictions_table` makes it.
    split_sha256 : str or None
        Fingerprint of the rows of the holdout and of the folds.
    """

    scores: Mapping[str, list[float]]
    predictions: pd.DataFrame | None
    split_sha256: str | None


def compare_results(
    recorded: TrainingResult, now: TrainingResult, *, n_folds: int
) -> tuple[list[Pair], list[Pair], int]:
    """Compare two trainings value by value.

    Parameters
    ----------
    recorded, now : TrainingResult
        Predictions are compared where both have some.
    n_folds : int
        Of the whole cross-validation.

    Returns
    -------
    values : list of Pair
        Every score, and one pair for all predictions of a fold: their number and the digest of their text.
    differing : list of Pair
        The single values that differ: for each fold its scores and then its rows, then the holdout, then the means.
    n_compared : int
        How many single values were compared.
    """
    values, n_compared = [Pair(names.SPLIT_SHA256, recorded.split_sha256, now.split_sha256)], 1
    differing = [pair for pair in values if not pair.equal]
    tables = _aligned(recorded.predictions, now.predictions)
    predicted = set() if tables is None else set(tables[0].index.get_level_values("fold"))
    scored = range(max(n_folds, *map(len, recorded.scores.values())))
    # The holdout has the number of a fold before the first, and comes last.
    for fold in (*sorted({*scored, *predicted} - {HOLDOUT_FOLD}), HOLDOUT_FOLD):
        title, prefix, step = f"fold {fold + 1}/{n_folds}", "fold/", fold
        if fold == HOLDOUT_FOLD:
            title, prefix, step = "holdout", "holdout/", 0
        scores = list(_score_pairs(recorded, now, prefix, step, title))
        values += scores
        differing += [pair for pair in scores if not pair.equal]
        n_compared += len(scores)
        if tables is not None and fold in predicted:
            of_fold: list[Any] = [table.xs(fold, level="fold") for table in tables]
            values.append(Pair(f"{title} predictions", *map(_digest, of_fold)))
            differing += _differing_cells(title, *of_fold)
            n_compared += of_fold[0].size
    means = list(_score_pairs(recorded, now, "cv/", 0, "cv"))
    return values + means, differing + [pair for pair in means if not pair.equal], n_compared + len(means)


def _score_pairs(recorded: TrainingResult, now: TrainingResult, prefix: str, step: int, title: str) -> Iterator[Pair]:
    """One step of every recorded metric with a prefix, in the order in which they are computed."""
    for name in sorted(recorded.scores, key=[*now.scores, *recorded.scores].index):
        if name.startswith(prefix):
            both = [result.scores.get(name, [])[step : step + 1] for result in (recorded, now)]
            if any(both):
                texts = (repr(value[0]) if value else None for value in both)
                yield Pair(f"{title} {name.removeprefix(prefix)}", *texts)


def _aligned(recorded: pd.DataFrame | None, now: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Both tables as text with the same rows and columns in the same order; text is empty where a table has no cell."""
    if recorded is None or now is None:
        return None
    tables = []
    for table in (recorded, now):
        keys = table[["fold", "row"]]
        # A splitter may draw a row twice for one fold.
        keys = keys.assign(occurrence=keys.groupby(["fold", "row"]).cumcount())
        text = pd.DataFrame(
            {name: [repr(value) for value in table[name].tolist()] for name in table if name not in keys}
        )
        tables.append(text.set_axis(pd.MultiIndex.from_frame(keys)))
    index = tables[1].index.union(tables[0].index, sort=False)
    columns = tables[1].columns.union(tables[0].columns, sort=False)
    first, second = (table.reindex(index=index, columns=columns, fill_value="") for table in tables)
    return first, second


def _digest(predictions: pd.DataFrame) -> str:
    present = predictions[(predictions != "").any(axis=1)]
    return f"{len(present)} rows {hashlib.sha256(present.to_csv().encode()).hexdigest()[:SHOWN_DIGEST_CHARS]}"


def _differing_cells(title: str, recorded: pd.DataFrame, now: pd.DataFrame) -> Iterator[Pair]:
    for position, column in zip(*(recorded != now).to_numpy().nonzero(), strict=True):
        row, _ = recorded.index[position]
        both: list[Any] = [table.iat[position, column] or None for table in (recorded, now)]
        yield Pair(f"{title} row {row} {recorded.columns[column]}", *both)
