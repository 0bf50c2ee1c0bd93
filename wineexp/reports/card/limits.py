"""Limits of a model: what its record shows that it cannot do, or that nobody can know."""

import pandas as pd

from wineexp.reports.card.inputs import FEW, SLICE_METRIC, Facts
from wineexp.reports.document import Bullets, Paragraph, Part, Table
from wineexp.reports.text import exact, figure, listed, percent, words

# Below it, a class is missed more often than it is found.
RECALL = 0.5


def limits(facts: Facts) -> list[Part]:
    """What a user should know before trusting an answer: what the checks found, and the range of each feature."""
    found = [*_verdicts(facts), *_classes(facts), *_slices(facts), *_evidence(facts)]
    checked = (
        f"Checked: the gain over the majority class and the baseline, classes of fewer than {FEW} rows, classes of a "
        f"recall below {RECALL:g} or never predicted, slices, copies of test rows in training, the holdout and the "
        "state of the code."
    )
    return [
        Paragraph(checked if found else f"{checked} None of this was found wanting."),
        *([Bullets(found)] if found else []),
        Paragraph("Outside these ranges the model extrapolates: it has seen no such row."),
        _ranges(facts),
    ]


def _verdicts(facts: Facts) -> list[str]:
    accuracy, majority = facts.summary["accuracy"][0], facts.summary["majority_accuracy"][0]
    told = []
    if accuracy <= majority:
        told.append(
            f"It does not beat the majority class: its accuracy is {figure(accuracy)}, that of always answering the "
            f"most frequent class {figure(majority)}."
        )
    if facts.baseline is None:
        told.append("No baseline was put beside it.")
        return told
    found = facts.against_baseline(facts.metric)
    if found is None or found.verdict == "no difference shown":
        told.append(f"No difference to the baseline, {facts.baseline.name}, is shown in {words(facts.metric)}.")
    elif found.verdict == "worse":
        told.append(f"It is worse than the baseline, {facts.baseline.name}, in {words(facts.metric)}.")
    worse = [
        words(name)
        for name in facts.task.metrics
        if name != facts.metric and (other := facts.against_baseline(name)) and other.verdict == "worse"
    ]
    if worse:
        told.append(f"It is worse than the baseline, {facts.baseline.name}, in {listed(worse)}, which do not decide.")
    return told


def _classes(facts: Facts) -> list[str]:
    told = []
    counts = facts.task.y.value_counts().reindex(facts.task.classes, fill_value=0)
    for position, (label, row) in enumerate(facts.by_class(facts.answers).iterrows()):
        rows = int(counts.iloc[position])
        if rows < FEW:
            told.append(f"Class {label} has {rows} rows to learn from.")
        if row["predicted"] == 0:
            told.append(f"Class {label} is never predicted, on any fold ({rows:,} rows).")
        elif row["recall"] < RECALL:
            told.append(f"Class {label} is missed more often than found: its recall is {figure(row['recall'])}.")
    return told


def _slices(facts: Facts) -> list[str]:
    name, overall = words(SLICE_METRIC), facts.summary[SLICE_METRIC][0]
    return [
        f"It does much worse where {label} ({row['rows']:,} rows): the {name} is {figure(row[SLICE_METRIC])} there, "
        f"{figure(overall)} over all rows; less is better."
        for label, row in facts.slices[facts.slices["worse"]].iterrows()
    ]


def _evidence(facts: Facts) -> list[str]:
    told = []
    if facts.copies > 0:
        told.append(
            f"{percent(facts.copies)} of the test rows have an exact copy among the rows trained on: the figures over "
            "the folds flatter."
        )
    if facts.holdout is None:
        told.append("Nothing was held out: the figures are of rows that a choice of model may have seen.")
    elif len(facts.holdout.y) < FEW:
        told.append(f"Only {len(facts.holdout.y)} rows were held out.")
    if "git.commit" not in facts.tags:
        told.append("The commit of the code is not known.")
    elif facts.tags.get("git.dirty") == "true":
        told.append("The code had changes that no commit holds; git.diff beside the run has them.")
    return told


def _ranges(facts: Facts) -> Table:
    X, units = facts.task.X, facts.task.dataset.units
    rows = []
    for name in map(str, X):
        values: pd.Series = X[name].dropna()
        if pd.api.types.is_numeric_dtype(values):
            seen = f"{exact(float(values.min()))} to {exact(float(values.max()))}"
        else:
            seen = ", ".join(sorted(map(str, values.unique())))
        rows.append([words(name), seen, units[name] or "not given"])
    return Table("What it was trained on", ["column", "values", "unit"], rows, frozenset({"values", "unit"}))
