"""The first screen of the results page: one row a question, with what was reached, an anchor, and what copies add."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import references
from wineexp.evaluation.comparison import mean_interval
from wineexp.evaluation.metrics import METRICS
from wineexp.reports.text import DASH, decimals, markdown_table, spaced
from wineexp.tracking.names import NAMED_EXPERIMENT, SPLIT_TEST_TO_TRAIN
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.runs import SHORT_ID

# The share of test rows that have a copy in training.
COPIES_TAG = "split.leaks.copies"
# Against which a model is held where nothing is published: the trees as they come, on the same folds or those of
# the experiment `baselines`.
ANCHOR_MODEL = "extratrees"
BASELINES = "baselines"
HEADER = ["question", "reached", "anchor", "what copies in training would add", "run"]
NO_COPIES = "no copies"
# The experiments with TabArena's folds: copies on both sides, and together.
TABARENA, TABARENA_GROUPED = "tabarena_wine", "tabarena_wine_grouped"


@dataclass(frozen=True)
class Question:
    """A named experiment in plain words.

    Attributes
    ----------
    experiment : str
    text : str
    published : str, optional
        The anchor, where somebody else has published one.
    without_copies : str, optional
        The experiment that asks the same with copies on one side.
    """

    experiment: str
    text: str
    published: str | None = None
    without_copies: str | None = None


WINES = {"red": "red wine", "white": "white wine", "quality": "any wine"}
TARGETS = {
    "score": "grade of {wine} as a number",
    "grade": "grade of {wine}, 3 to 9",
    "tier": "{wine}: low, middle or high",
    "good": "{wine}: 7 or more",
}
QUESTIONS = (
    Question(
        TABARENA, "grade of any wine as a number, TabArena's protocol", references.TABARENA_ANCHOR, TABARENA_GROUPED
    ),
    Question(TABARENA_GROUPED, "the same with copies of a wine together"),
    *(
        Question(f"best_{data}_{target}", text.format(wine=wine))
        for target, text in TARGETS.items()
        for data, wine in WINES.items()
    ),
    *(
        Question(name, f"grade of {WINES[name.removeprefix('paper_')]}, protocol of the paper", f"the paper {error}")
        for name, error in ((name, decimals(paper["mean_absolute_error"])) for name, paper in references.PAPER.items())
    ),
)


def summary_table(records: Sequence[RecordedRun], benchmark: list[RecordedRun], *, alpha: float) -> str:
    """A Markdown table with a row for each question that a run answers; empty where none does.

    Parameters
    ----------
    records : sequence of RecordedRun
        Runs of named experiments.
    benchmark : list of RecordedRun
        Runs of `benchmarks/accuracy`; of each goal the largest budget has a row.
    alpha : float
        Each interval holds the true mean with probability 1 - alpha.
    """
    rows = []
    for question in QUESTIONS:
        if (reached := _best(of_experiment(records, question.experiment))) is None:
            continue
        rows.append(
            [
                f"{question.text} (`{question.experiment}`)",
                f"{spaced(reached.metric)} **{_score(reached)}** ({_interval(reached, alpha)})",
                "; ".join(anchor for anchor in (_recorded_anchor(records, reached), question.published) if anchor)
                or DASH,
                _about_copies(records, question, reached),
                f"`{reached.id[:SHORT_ID]}`",
            ]
        )
    largest = {(one.data, one.goal): one for one in references.compared(benchmark)}
    rows += [_against_autogluon(one) for one in largest.values() if one.goal not in references.SHARED_RUNS]
    return markdown_table(HEADER, rows) if rows else ""


def side_by_side(records: Sequence[RecordedRun], *, alpha: float) -> str:
    """A Markdown table of the models that were run on TabArena's folds both ways; empty where none was."""
    apart, together = (
        {_model(record): record for record in of_experiment(records, name)} for name in (TABARENA, TABARENA_GROUPED)
    )
    rows = [
        [
            name,
            *(f"{_score(pair)} ({_interval(pair, alpha)})" for pair in (apart[name], together[name])),
            *(f"`{pair.id[:SHORT_ID]}`" for pair in (apart[name], together[name])),
        ]
        for name in sorted(set(apart) & set(together), key=lambda name: _mean(together[name]))
    ]
    header = ["model, features", "copies on both sides", "copies together", "run", "run"]
    return markdown_table(header, rows) if rows else ""


def of_experiment(records: Sequence[RecordedRun], name: str) -> list[RecordedRun]:
    """The runs of a named experiment."""
    return [record for record in records if record.tags[NAMED_EXPERIMENT] == name]


def _against_autogluon(one: references.Compared) -> list[str]:
    metric = references.GOAL_METRICS[one.goal][0]
    wineexp, autogluon, gain = one.means(metric)
    return [
        f"{TARGETS[one.goal].format(wine=WINES[one.data])}, found in {one.budget} s (`benchmarks/accuracy`)",
        f"{spaced(metric)} **{wineexp}**",
        f"AutoGluon {autogluon}; gain {gain}",
        NO_COPIES,
        "below",
    ]


def _best(records: Sequence[RecordedRun]) -> RecordedRun | None:
    """The best of those that copies flatter the least."""
    least = min((_copies(record) for record in records), default=0.0)
    fair = [record for record in records if _copies(record) == least]
    return max(fair, key=lambda record: _sign(record) * _mean(record), default=None)


def _recorded_anchor(records: Sequence[RecordedRun], reached: RecordedRun) -> str:
    """The trees as they come, on the same folds if they were run there; else what knows no feature would score.

    Empty where neither is recorded.
    """
    same_task = [
        record
        for record in records
        if record.params["model"] == ANCHOR_MODEL
        and record.metric == reached.metric
        and all(record.params[group] == reached.params[group] for group in ("data", "target"))
        and _copies(record) == _copies(reached)
        and record.tags[NAMED_EXPERIMENT] in (BASELINES, reached.tags[NAMED_EXPERIMENT])
        and record is not reached
    ]
    own = [record for record in same_task if record.tags[NAMED_EXPERIMENT] != BASELINES]
    if own:
        return f"extra trees {_score(own[0])}"
    if same_task:
        return f"extra trees {_score(same_task[0])} on the folds of `{BASELINES}`"
    always = reached.metrics.get(f"cv/baseline_{reached.metric}")
    return "" if always is None else f"always the mean {decimals(always)}"


def _about_copies(records: Sequence[RecordedRun], question: Question, reached: RecordedRun) -> str:
    """In plain words: how much of the score is of copies, or what it would be if copies were in training."""
    if share := _copies(reached):
        known = f"{share:.0%} of the test rows are known from training"
        without = _best(of_experiment(records, question.without_copies)) if question.without_copies else None
        return known if without is None else f"{known}; without that {_score(without)}"
    flattered = [
        record
        for record in of_experiment(records, question.experiment)
        if _copies(record) and record.params["model"] == reached.params["model"]
    ]
    if not flattered:
        return NO_COPIES
    return f"{NO_COPIES}; with {_copies(flattered[0]):.0%} of the test rows known, {_score(flattered[0])}"


def _copies(record: RecordedRun) -> float:
    return float(record.tags.get(COPIES_TAG, 0))


def _sign(record: RecordedRun) -> int:
    return 1 if METRICS[str(record.metric)].direction == "maximize" else -1


def _mean(record: RecordedRun) -> float:
    return record.metrics[f"cv/{record.metric}"]


def _score(record: RecordedRun) -> str:
    return decimals(_mean(record))


def _interval(record: RecordedRun, alpha: float) -> str:
    ratio = float(record.tags[SPLIT_TEST_TO_TRAIN])
    low, high = mean_interval(record.fold_scores(str(record.metric)), test_to_train=ratio, alpha=alpha)
    return f"{decimals(low)} to {decimals(high)}"


def _model(record: RecordedRun) -> str:
    return f"{record.params['model']}, {record.params['feature']}"
