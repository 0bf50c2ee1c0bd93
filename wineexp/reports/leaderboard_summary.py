"""A ranking in sentences, shared by the text and the HTML leaderboard."""

from collections import Counter

from wineexp.reports.text import decimals, enumeration, interval, spaced
from wineexp.tracking import names
from wineexp.tracking.ranking import Ranking, Row, pruned

# So many characters of a digest are shown.
SHORT_DIGEST_CHARS = 8

# The end of a sentence that begins with the number of runs with a verdict.
VERDICT_PHRASES = {
    "worse": "did worse",
    "no difference shown": "showed no difference",
    "better": "did better",
}


def subtitle(ranking: Ranking) -> str:
    """How many runs were ranked, by which metric, on which data and folds."""
    n_ranked, n_shown = len(ranking.records), len(ranking.rows)
    shown = f", {n_shown} of them shown" if n_shown < n_ranked else ""
    better = "higher" if ranking.direction == "maximize" else "lower"
    return (
        f"{n_ranked} run{'s' * (n_ranked != 1)}{shown}, by {spaced(ranking.metric)} ({better} is better); "
        f"data {ranking.first.tags[names.DATA_MD5][:SHORT_DIGEST_CHARS]}, "
        f"folds {ranking.first.tags[names.SPLIT_SHA256][:SHORT_DIGEST_CHARS]}"
    )


def confidence_level(ranking: Ranking) -> str:
    """The confidence level of the ranking's intervals."""
    return f"{100 * (1 - ranking.alpha):.4g} %"


def difference(row: Row) -> str:
    """A run's difference to the best, with its interval; empty where it was not compared."""
    comparison = row.comparison
    return interval(comparison.difference, comparison.low, comparison.high) if comparison else ""


def lead(ranking: Ranking) -> str:
    """Which run leads, and how many of the others each verdict holds for."""
    best = ranking.rows[0]
    if pruned(best.record):
        return "Every run was pruned: none was scored on all folds, and none can be compared."
    sentence = f"{best.record.name} leads with {spaced(ranking.metric)} {decimals(best.score, best.spread)}."
    counts = Counter(row.verdict for row in ranking.rows if row.comparison is not None)
    phrases = [f"{counts[verdict]} {phrase}" for verdict, phrase in VERDICT_PHRASES.items() if counts[verdict]]
    if phrases:
        sentence += f" Of the {counts.total()} runs compared with it on the same folds, {enumeration(phrases)}."
    return sentence


def caveat(ranking: Ranking) -> str:
    """What the verdicts mean, and what they do not."""
    if len(ranking.records) == 1:
        return "This is the only run: there is nothing to compare it with."
    if len(ranking.compared) < 2:
        return "Nothing was compared: a verdict takes two runs that were scored on the same two or more folds."
    return (
        f"Differences are to the best run on the same {ranking.rows[0].n_folds} folds, + is better; the interval is of "
        f"the corrected resampled t-test. Each interval is at {confidence_level(ranking)} by itself, not all of them "
        f"together. The best is the best of {len(ranking.records)}, which flatters its own score."
    )


def omissions(left_out: dict[str, int]) -> str:
    """How many runs were left out of all rankings, and why; empty where none was."""
    if not left_out:
        return ""
    return f"Left out: {enumeration([f'{number} {reason}' for reason, number in left_out.items()])}."
