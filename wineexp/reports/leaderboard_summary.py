"""What a ranking says, in plain words."""

from collections import Counter

from wineexp.reports.text import figure, listed, signed, words
from wineexp.tracking.ranking import Ranking, Row, pruned

# Characters of a digest that are shown.
SHORT = 8

# What is said of runs with a verdict, after their number.
SAID = {
    "worse": "did worse",
    "no difference shown": "cannot be told from it",
    "better": "did better",
}


def subtitle(ranking: Ranking) -> str:
    """What was ranked, by what."""
    number, shown = len(ranking.records), len(ranking.rows)
    better = "higher" if ranking.direction == "maximize" else "lower"
    return (
        f"{number} run{'s' * (number != 1)}{f', {shown} of them shown' if shown < number else ''}, by "
        f"{words(ranking.metric)} ({better} is better); data {ranking.first.tags['data.md5'][:SHORT]}, "
        f"folds {ranking.first.tags['split.sha256'][:SHORT]}"
    )


def level(ranking: Ranking) -> str:
    """The level of its intervals."""
    return f"{100 * (1 - ranking.alpha):.4g} %"


def difference(row: Row) -> str:
    """By how much a run differs from the best, and within which interval; empty where it was not compared."""
    told = row.comparison
    if told is None:
        return ""
    return f"{signed(told.difference, 4)} ({signed(told.low, 4)} to {signed(told.high, 4)})"


def lead(ranking: Ranking) -> str:
    """Who leads, and how many of those shown are beyond doubt behind."""
    best = ranking.rows[0]
    if pruned(best.record):
        return "Every run was pruned: none was scored on all folds, and none can be compared."
    told = f"{best.record.name} leads with {words(ranking.metric)} {figure(best.score, best.spread)}."
    counts = Counter(row.verdict for row in ranking.rows if row.comparison is not None)
    parts = [f"{counts[verdict]} {text}" for verdict, text in SAID.items() if counts[verdict]]
    if parts:
        told += f" Of the {counts.total()} runs compared with it on the same folds, {listed(parts)}."
    return told


def caveat(ranking: Ranking) -> str:
    """What the verdicts mean, and what they do not."""
    if len(ranking.records) == 1:
        return "One run alone: there is nothing to compare it with."
    if len(ranking.compared) < 2:
        return "Nothing was compared: a verdict takes two runs with the same folds, two of them at least."
    folds = ranking.rows[0].n_folds
    return (
        f"Differences are to the best on the same {folds} folds, + is better; the interval is of the corrected "
        f"resampled t-test. Each interval is at {level(ranking)} by itself, not all of them together. The best is the "
        f"best of {len(ranking.records)}, which flatters its own figure."
    )


def omissions(left_out: dict[str, int]) -> str:
    """How many runs were left out of every ranking, and why; empty where none was."""
    if not left_out:
        return ""
    return f"Left out: {listed([f'{number} {reason}' for reason, number in left_out.items()])}."
