"""The model card: what a model predicts, how well, and where it fails, computed from its run's record."""

import json

import pandas as pd

from wineexp.core.config import GROUPS
from wineexp.data import eda
from wineexp.data.task import Task
from wineexp.reports.card import numbers, performance
from wineexp.reports.card.inputs import CardInputs
from wineexp.reports.card.limits import limits
from wineexp.reports.document import Code, Document, Paragraph, Part, Section, Table, Tiles
from wineexp.reports.text import decimals, enumeration, percent, spaced
from wineexp.tracking.names import LIBRARIES

# Recorded parameters that begin so describe how the model was made.
TRAINING_PARAMS = ("model", "feature", "split", "holdout", "early_stopping", "device", "seed")


def card(inputs: CardInputs) -> Document:
    """The card as a document; every number and every name in it is computed from the inputs: the same give the same."""
    params = inputs.params
    return Document(
        title=f"{params['model']}, a model of {params['target']}",
        subtitle="Model card of " + " · ".join(params[name] for name in GROUPS),
        sections=[
            Section("Overview", _overview(inputs)),
            Section("Limits", limits(inputs)),
            Section("Data", _data(inputs)),
            Section("Training", _training(inputs)),
            Section("Metrics", performance.metrics(inputs)),
            *_sections_of_kind(inputs),
            Section("Lineage", _lineage(inputs)),
        ],
    )


def _sections_of_kind(inputs: CardInputs) -> list[Section]:
    """The sections that differ between classes and numbers."""
    if inputs.task.target.is_number:
        return [
            Section("Errors", numbers.errors(inputs)),
            Section("Intervals", numbers.intervals(inputs)),
            Section("Slices", numbers.slices(inputs)),
        ]
    return [
        Section("Classes", performance.classes(inputs)),
        Section("Slices", performance.slices(inputs)),
        Section("Calibration", performance.calibration(inputs)),
    ]


def _overview(inputs: CardInputs) -> list[Part]:
    target, X, metric = inputs.task.target, inputs.task.X, spaced(inputs.metric)
    mean, deviation = inputs.summary[inputs.metric]
    tiles = [(decimals(mean), f"{metric}, mean of {len(inputs.folds)} folds, deviation {decimals(deviation)}")]
    if inputs.holdout is not None:
        rows = inputs.task.n_holdout
        tiles.append((decimals(inputs.holdout_scores[inputs.metric]), f"{metric} on {rows:,} rows held out"))
    if target.is_number:
        tiles.append(numbers.tile_of_mean(inputs))
    else:
        if inputs.metric != "accuracy":
            tiles.append((decimals(inputs.summary["accuracy"][0]), "accuracy, mean of the folds"))
        majority = decimals(inputs.summary["majority_accuracy"][0])
        tiles.append((majority, "accuracy of always predicting the majority class"))
    if inputs.baseline is not None:
        scores = pd.Series(inputs.baseline.folds[inputs.metric])
        tiles.append((decimals(float(scores.mean())), f"{metric} of the baseline, {inputs.baseline.name}"))
    return [
        Paragraph(
            f"It predicts {spaced(target.column)} {numbers.predicted_as(inputs) if target.is_number else _as(inputs)}, "
            f"from {X.shape[1]} columns: {enumeration([spaced(name) for name in X])}. Models are "
            f"compared by {metric}, which is to {inputs.task.deciding_metric.direction}."
            + (" It decides on the class of the least expected cost." if target.costs is not None else "")
        ),
        Tiles(tiles),
    ]


def _as(inputs: CardInputs) -> str:
    """What is predicted of classes, as the end of a clause."""
    ordered = ", in this order," if inputs.task.target.ordinal else ""
    classes = enumeration([f"{label}{_bounds(inputs, position)}" for position, label in enumerate(inputs.labels)])
    return f"as one of {len(inputs.labels)} classes{ordered} {classes}, with a probability for each"


def _bounds(inputs: CardInputs, position: int) -> str:
    """The values of the target's column that a class stands for; empty unless the target bins that column."""
    target = inputs.task.target
    if not target.bins or not target.labels:
        return ""
    number = target.labels.index(inputs.labels[position])
    low = f"above {target.bins[number - 1]:g}" if number else ""
    high = f"up to {target.bins[number]:g}" if number < len(target.bins) else ""
    return f" ({' and '.join(filter(None, (low, high)))})"


def _data(inputs: CardInputs) -> list[Part]:
    task, dataset = inputs.task, inputs.task.dataset
    missing = int(eda.missing_values(dataset.frame).sum())
    weighted = (
        ""
        if dataset.weights is None
        else f" Each row counts as often as its {spaced(str(dataset.weights.name))} says, in fitting and in every "
        "metric; numbers of rows are not weighted."
    )
    return [
        Paragraph(
            f"{dataset.n_rows:,} rows, {dataset.duplicates:,} of them exact duplicates of an earlier one; "
            f"{missing:,} values{' of the sample' if task.plan else ''} are missing. {task.n_training:,} rows were "
            f"cross-validated, and the final model was trained on them; {task.n_holdout:,} were held out.{weighted}"
            f"{_of_sample(task) if task.plan else ''}"
        ),
        Table(
            "Files",
            ["file", "bytes", "md5", "pin", "source"],
            [
                [Code(pin.name), f"{pin.size:,}", Code(pin.md5), Code(pin.dvc_name), pin.source_url or "not given"]
                for pin in dataset.pins
            ],
            prose=frozenset({"md5", "pin", "source"}),
        ),
        numbers.distribution(inputs) if task.target.is_number else _class_rows(inputs),
    ]


def _of_sample(task: Task) -> str:
    return (
        " The table is read in batches: scores of the model, on folds and holdout, are of all rows; every other number "
        f"and figure here, and the baseline, are of a sample of {len(task.dataset.frame):,} rows."
    )


def _class_rows(inputs: CardInputs) -> Table:
    task = inputs.task
    balance, holdout = eda.class_balance(task.y, task.classes), task.y_holdout.value_counts()
    return Table(
        "Rows of each class",
        [spaced(task.target.column), "trained on", "share", "held out"],
        [
            [str(label), f"{row['rows']:,.0f}", percent(row["share"]), f"{holdout.get(label, 0):,}"]
            for label, row in balance.iterrows()
        ],
    )


def _training(inputs: CardInputs) -> list[Part]:
    params = inputs.params
    names = [name for name in sorted(params) if name.partition(".")[0] in TRAINING_PARAMS and name not in GROUPS]
    return [
        Paragraph(
            f"The model {params['model']} on the features {params['feature']}, fitted as one pipeline inside each "
            f"of the {len(inputs.folds)} folds of the split {params['split']}, and once more on all rows that are not "
            "held out. Its parameters, as they are spelled on the command line:"
        ),
        Table(
            "Parameters",
            ["parameter", "value"],
            [[Code(name), Code(params[name])] for name in names],
            frozenset({"value"}),
        ),
    ]


def _lineage(inputs: CardInputs) -> list[Part]:
    tags = inputs.tags
    recorded = [name for name in sorted(tags) if name != LIBRARIES and not name.startswith("mlflow.")]
    libraries = json.loads(tags.get(LIBRARIES, "{}"))
    return [
        Table(
            "As recorded",
            ["record", "value"],
            [*([Code(name), Code(tags[name])] for name in recorded), [Code("seed"), Code(inputs.params["seed"])]],
            frozenset({"value"}),
        ),
        Table("Libraries", ["library", "version"], [[name, libraries[name]] for name in sorted(libraries)]),
    ]
