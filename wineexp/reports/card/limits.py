"""The limits of a model: weaknesses that its record shows, and evidence that the record lacks."""

import pandas as pd

from wineexp.core.columns import is_number
from wineexp.reports.card import numbers
from wineexp.reports.card.inputs import MIN_ROWS, CardInputs
from wineexp.reports.document import Bullets, Paragraph, Part, Table
from wineexp.reports.text import decimals, enumeration, exact, number, percent, spaced
from wineexp.tracking import names

# A class with a recall below this is missed in more than half of its rows.
MIN_RECALL = 0.5


def limits(inputs: CardInputs) -> list[Part]:
    """What a user should know before trusting a prediction: the result of each check, and the range of each feature."""
    is_number = inputs.task.target.is_number
    of_kind = [] if is_number else _classes(inputs)
    items = [*_verdicts(inputs), *of_kind, *_slices(inputs), *_evidence(inputs)]
    checked_of_kind = (
        "the mean of the training rows and the baseline"
        if is_number
        else f"the majority class and the baseline, classes of fewer than {MIN_ROWS} rows, classes of a recall below "
        f"{MIN_RECALL:g} or never predicted"
    )
    checked = (
        f"Checked: the gain over {checked_of_kind}, slices, copies of test rows in training, the holdout and the state "
        "of the code."
    )
    return [
        Paragraph(checked if items else f"{checked} All checks passed."),
        *([Bullets(items)] if items else []),
        Paragraph("Outside these ranges the model extrapolates: it was trained on no such row."),
        _ranges(inputs),
    ]


def _verdicts(inputs: CardInputs) -> list[str]:
    items = _against_constant(inputs)
    if inputs.baseline is None:
        items.append("It was not compared with a baseline.")
        return items
    comparison = inputs.against_baseline(inputs.metric)
    if comparison is None or comparison.verdict == "no difference shown":
        items.append(f"No difference to the baseline, {inputs.baseline.name}, is shown in {spaced(inputs.metric)}.")
    elif comparison.verdict == "worse":
        items.append(f"It is worse than the baseline, {inputs.baseline.name}, in {spaced(inputs.metric)}.")
    worse = [
        spaced(name)
        for name in inputs.task.metrics
        if name != inputs.metric and (comparison := inputs.against_baseline(name)) and comparison.verdict == "worse"
    ]
    if worse:
        items.append(
            f"It is worse than the baseline, {inputs.baseline.name}, in {enumeration(worse)}, which do not decide "
            "between models."
        )
    return items


def _against_constant(inputs: CardInputs) -> list[str]:
    """Whether it is no better than an answer that is always the same."""
    if inputs.task.target.is_number:
        name, error, of_mean = numbers.error_of_mean(inputs)
        if error < of_mean:
            return []
        return [
            f"It does not beat the mean: its {spaced(name)} is {number(error)}, that of always answering the mean of "
            f"the training rows {number(of_mean)}."
        ]
    accuracy, majority = inputs.summary["accuracy"][0], inputs.summary["majority_accuracy"][0]
    if accuracy > majority:
        return []
    return [
        f"It does not beat the majority class: its accuracy is {decimals(accuracy)}, that of always predicting the "
        f"most frequent class {decimals(majority)}."
    ]


def _classes(inputs: CardInputs) -> list[str]:
    items = []
    counts = inputs.task.y.value_counts().reindex(inputs.task.classes, fill_value=0)
    for position, (label, row) in enumerate(inputs.by_class(inputs.predictions).iterrows()):
        rows = int(counts.iloc[position])
        if rows < MIN_ROWS:
            items.append(f"Class {label} has {rows} rows to learn from.")
        if row["predicted"] == 0:
            items.append(f"Class {label} is never predicted, on any fold ({rows:,} rows).")
        elif row["recall"] < MIN_RECALL:
            items.append(
                f"Class {label} is missed in more than half of its rows: its recall is {decimals(row['recall'])}."
            )
    return items


def _slices(inputs: CardInputs) -> list[str]:
    metric = inputs.slice_metric
    overall = decimals(inputs.summary[metric][0])
    return [
        f"It does much worse where {label} ({row['rows']:,} rows): the {spaced(metric)} is {decimals(row[metric])} "
        f"there, {overall} over all rows; less is better."
        for label, row in inputs.slices[inputs.slices["much_worse"]].iterrows()
    ]


def _evidence(inputs: CardInputs) -> list[str]:
    items = []
    copies = inputs.task.leaks["copies"]
    if copies > 0:
        items.append(
            f"{percent(copies)} of the test rows equal a row that was trained on, which with so few different "
            "values they do by chance."
            if inputs.task.dataset.is_repeated_by_chance
            else f"{percent(copies)} of the test rows have an exact copy among the rows trained on: the scores "
            "over the folds are too good."
        )
    if inputs.holdout is None:
        items.append("Nothing was held out: the model may have been chosen by the rows that it is scored on.")
    elif len(inputs.holdout.y) < MIN_ROWS:
        items.append(f"Only {len(inputs.holdout.y)} rows were held out.")
    if names.GIT_COMMIT not in inputs.tags:
        items.append("The commit of the code is not known.")
    elif inputs.tags.get(names.GIT_DIRTY) == "true":
        items.append("The code had changes that no commit holds; git.diff beside the run has them.")
    return items


def _ranges(inputs: CardInputs) -> Table:
    X, units = inputs.task.X, inputs.task.dataset.units
    rows = []
    for name in map(str, X):
        values: pd.Series = X[name].dropna()
        if is_number(values):
            values_text = f"{exact(float(values.min()))} to {exact(float(values.max()))}"
        else:
            values_text = ", ".join(sorted(map(str, values.unique())))
        rows.append([spaced(name), values_text, units[name] or "not given"])
    return Table("Values in the training rows", ["column", "values", "unit"], rows, frozenset({"values", "unit"}))
