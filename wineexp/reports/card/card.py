"""The model card: what a model is for, how well it does and where it fails, in sentences that its record fills in."""

import json

import pandas as pd

from wineexp.core.config import GROUPS
from wineexp.data import eda
from wineexp.reports import document
from wineexp.reports.card import performance
from wineexp.reports.card.inputs import Facts
from wineexp.reports.card.limits import limits
from wineexp.reports.document import Code, Document, Paragraph, Part, Section, Table, Tiles
from wineexp.reports.text import figure, listed, percent, words

# Of the recorded parameters, those that say how the model was made.
MADE_BY = ("model", "feature", "split", "holdout", "seed")


def markdown(facts: Facts) -> str:
    """The card as Markdown: the same facts give the same bytes."""
    return document.markdown(card(facts))


def html(facts: Facts) -> str:
    """The card as one HTML file that needs no other: the same facts give the same bytes."""
    return document.html(card(facts))


def card(facts: Facts) -> Document:
    """The card's sections; every number and every name in them is computed from the facts."""
    params = facts.params
    return Document(
        title=f"{params['model']}, a model of {params['target']}",
        subject="Model card of " + " · ".join(params[name] for name in GROUPS),
        sections=[
            Section("Overview", _overview(facts)),
            Section("Limits", limits(facts)),
            Section("Data", _data(facts)),
            Section("Training", _training(facts)),
            Section("Metrics", performance.metrics(facts)),
            Section("Classes", performance.classes(facts)),
            Section("Slices", performance.slices(facts)),
            Section("Calibration", performance.calibration(facts)),
            Section("Lineage", _lineage(facts)),
        ],
    )


def _overview(facts: Facts) -> list[Part]:
    target, X, name = facts.task.target, facts.task.X, words(facts.metric)
    mean, deviation = facts.summary[facts.metric]
    ordered = ", in this order," if target.ordinal else ""
    classes = listed([f"{label}{_edges(facts, position)}" for position, label in enumerate(facts.labels)])
    figures = [(figure(mean), f"{name}, mean of {len(facts.folds)} folds, deviation {figure(deviation)}")]
    if facts.holdout is not None:
        rows = len(facts.holdout.y)
        figures.append((figure(facts.holdout_scores[facts.metric]), f"{name} on {rows:,} rows held out"))
    if facts.metric != "accuracy":
        figures.append((figure(facts.summary["accuracy"][0]), "accuracy, mean of the folds"))
    figures.append((figure(facts.summary["majority_accuracy"][0]), "accuracy of always answering the majority class"))
    if facts.baseline is not None:
        scores = pd.Series(facts.baseline.folds[facts.metric])
        figures.append((figure(float(scores.mean())), f"{name} of the baseline, {facts.baseline.name}"))
    return [
        Paragraph(
            f"It predicts {words(target.column)} as one of {len(facts.labels)} classes{ordered} {classes}, with a "
            f"probability for each, from {X.shape[1]} columns: {listed([words(name) for name in X])}. What decides "
            f"between models is {name}, which is to {target.direction}."
        ),
        Tiles(figures),
    ]


def _edges(facts: Facts, position: int) -> str:
    """Which values of the target's column a class stands for, where it stands for a range of them."""
    target = facts.task.target
    if not target.bins or not target.labels:
        return ""
    number = target.labels.index(facts.labels[position])
    low = f"above {target.bins[number - 1]:g}" if number else ""
    high = f"up to {target.bins[number]:g}" if number < len(target.bins) else ""
    return f" ({' and '.join(filter(None, (low, high)))})"


def _data(facts: Facts) -> list[Part]:
    task, dataset = facts.task, facts.task.dataset
    missing = int(eda.missing_values(dataset.frame).sum())
    balance, held = eda.class_balance(task.y, task.classes), task.y_holdout.value_counts()
    return [
        Paragraph(
            f"{len(dataset.frame):,} rows, {dataset.duplicates:,} of them exact duplicates of an earlier one; "
            f"{missing:,} values are missing. {len(task.y):,} rows were cross-validated, and the final model was "
            f"trained on them; {len(task.y_holdout):,} were held out."
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
        Table(
            "Rows of each class",
            [words(task.target.column), "trained on", "share", "held out"],
            [
                [str(label), f"{row['rows']:,.0f}", percent(row["share"]), f"{held.get(label, 0):,}"]
                for label, row in balance.iterrows()
            ],
        ),
    ]


def _training(facts: Facts) -> list[Part]:
    params = facts.params
    made = [name for name in sorted(params) if name.partition(".")[0] in MADE_BY and name not in GROUPS]
    return [
        Paragraph(
            f"The model {params['model']} on the features {params['feature']}, fitted as one pipeline inside each "
            f"of the {len(facts.folds)} folds of the split {params['split']}, and once more on all rows that are not "
            "held out. Its parameters, as they are spelled on the command line:"
        ),
        Table(
            "Parameters",
            ["parameter", "value"],
            [[Code(name), Code(params[name])] for name in made],
            frozenset({"value"}),
        ),
    ]


def _lineage(facts: Facts) -> list[Part]:
    tags = facts.tags
    recorded = [name for name in sorted(tags) if name != "libraries" and not name.startswith("mlflow.")]
    libraries = json.loads(tags.get("libraries", "{}"))
    return [
        Table(
            "As recorded",
            ["what", "value"],
            [*([Code(name), Code(tags[name])] for name in recorded), [Code("seed"), Code(facts.params["seed"])]],
            frozenset({"value"}),
        ),
        Table("Libraries", ["library", "version"], [[name, libraries[name]] for name in sorted(libraries)]),
    ]
