"""A model's performance in words and tables: by metric, by class, by slice, and of its probabilities."""

import numpy as np
import pandas as pd

from wineexp.evaluation.metrics import METRICS, Predictions, calibration_curve, score
from wineexp.reports import style
from wineexp.reports.card.inputs import ALPHA, FEW, MUCH, SLICE_METRIC, Facts
from wineexp.reports.document import Paragraph, Part, Picture, Table
from wineexp.reports.text import figure, listed, number, percent, signed, words


def metrics(facts: Facts) -> list[Part]:
    """Every metric on the folds and the holdout, beside the baseline."""
    baseline, table = facts.baseline, []
    for name in facts.summary:
        row = [words(name), figure(*facts.summary[name])]
        found = facts.against_baseline(name)
        if baseline is not None:
            scores = pd.Series(baseline.folds.get(name, []), dtype=float)
            interval = (
                f"{signed(found.difference, 4)} ({signed(found.low, 4)} to {signed(found.high, 4)})" if found else ""
            )
            row += [figure(float(scores.mean()), float(scores.std())), interval, found.verdict if found else ""]
        if facts.holdout is not None:
            row.append(figure(facts.holdout_scores.get(name)))
            row += [figure(baseline.holdout.get(name))] if baseline is not None else []
        table.append(row)
    columns = ["metric", "folds"]
    told = "Each is to maximize, but for " + listed(
        [words(name) for name in facts.task.metrics if METRICS[name].direction == "minimize"]
    )
    told += ". Majority accuracy is what always answering the training rows' most frequent class gets."
    if baseline is not None:
        columns += [f"folds, {baseline.name}", "gain", "verdict"]
        told += (
            f" The gain is how much better the model is than the baseline, {baseline.name}, on the same folds, "
            f"whichever way the metric is better, with its {percent(1 - ALPHA, 0)} interval (the corrected resampled "
            "t-test of Nadeau and Bengio); the verdict is better or worse where the interval leaves out 0."
        )
    if facts.holdout is not None:
        columns += ["holdout", f"holdout, {baseline.name}"] if baseline is not None else ["holdout"]
    return [Paragraph(told), Table("Mean and standard deviation over the folds", columns, table)]


def classes(facts: Facts) -> list[Part]:
    """Precision, recall and F1 of each class, on the folds and on the holdout."""
    tables = [_class_table(facts, "Over all folds", facts.answers, facts.task.y)]
    if facts.holdout is not None:
        tables.append(_class_table(facts, "On the holdout", facts.holdout, facts.task.y_holdout))
    return [
        Paragraph(
            "Precision: how often the class was right when it was predicted. Recall: how often it was predicted when "
            f"it was right. F1 is their harmonic mean. A class of fewer than {FEW} rows is marked."
        ),
        *tables,
    ]


def _class_table(facts: Facts, caption: str, answers: Predictions, y: pd.Series) -> Table:
    rows = y.value_counts().reindex(facts.task.classes, fill_value=0)
    return Table(
        caption,
        ["class", "rows", "precision", "recall", "F1"],
        [
            [str(label), _marked(rows.iloc[position]), *(figure(row[name]) for name in ("precision", "recall", "f1"))]
            for position, (label, row) in enumerate(facts.by_class(answers).iterrows())
        ],
    )


def slices(facts: Facts) -> list[Part]:
    """The deciding metric on parts of the rows."""
    why = "whose shuffling costs the model most" if facts.importance is not None else "that tell the classes apart best"
    shown = {name: words(name) for name in dict.fromkeys((facts.metric, SLICE_METRIC)) if name != "accuracy"}
    return [
        Paragraph(
            f"Rows outside the holdout, by thirds of the features {why} and by every value of a text: "
            f"{listed([words(feature) for feature in facts.sliced_by])}. The majority is the share of the slice's own "
            f"most frequent class. The gain is in the {words(SLICE_METRIC)}, from all rows of the same folds to the "
            f"slice, negative where the model does worse there, with its {percent(1 - ALPHA, 0)} interval, for each "
            "slice by itself; that score is a mean over rows, so that no slice loses by holding less variety than the "
            "whole. Better or worse is a slice whose interval leaves out 0, much worse one whose score is worse by "
            f"more than {percent(MUCH, 0)} of the whole's as well."
        ),
        Table(
            f"Slices; fewer than {FEW} rows are marked",
            ["slice", "rows", "accuracy", "majority", *shown.values(), "gain", "verdict"],
            [
                [
                    str(label),
                    _marked(row["rows"]),
                    *(figure(row[column]) for column in ("accuracy", "majority", *shown)),
                    f"{signed(row['gain'], 4)} ({signed(row['low'], 4)} to {signed(row['high'], 4)})"
                    if not np.isnan(row["gain"])
                    else figure(None),
                    "much worse"
                    if row["worse"]
                    else "worse"
                    if row["high"] < 0
                    else "better"
                    if row["low"] > 0
                    else "",
                ]
                for label, row in facts.slices.iterrows()
            ],
        ),
    ]


def calibration(facts: Facts) -> list[Part]:
    """Whether probabilities are what they say: in words, as a picture, as a table."""
    bins = calibration_curve(facts.answers)
    right = float(np.mean(facts.answers.y == facts.answers.probabilities.argmax(axis=1)))
    given = float(facts.answers.probabilities.max(axis=1).mean())
    names = ["expected_calibration_error", "brier_score", "log_loss"]
    pooled = score(facts.answers, names)
    held = f", {figure(facts.holdout_scores['expected_calibration_error'])} on the holdout" if facts.holdout else ""
    return [
        Paragraph(
            f"The class that it finds likeliest gets a probability of {percent(given)} on average, and is right "
            f"{percent(right)} of the time. Over all {len(facts.answers.y):,} answers on the folds the expected "
            f"calibration error is {figure(pooled[names[0]])}{held}; the Brier score (from 0 to 2) is "
            f"{figure(pooled[names[1]])}, the log loss {figure(pooled[names[2]])}."
        ),
        Picture(
            "How often the likeliest class is right",
            style.reliability(bins),
            "; ".join(
                f"given {percent(row['confidence'])}, right {percent(row['accuracy'])}" for _, row in bins.iterrows()
            ),
        ),
        Table(
            "Predictions in bins of about equal size, by the probability of the likeliest class",
            ["probability", "mean", "right", "answers"],
            [
                [
                    f"{row['low']:.3f} to {row['high']:.3f}",
                    *(figure(row[name]) for name in ("confidence", "accuracy")),
                    f"{row['rows']:,.0f}",
                ]
                for _, row in bins.iterrows()
            ],
        ),
    ]


def _marked(rows: float) -> str:
    return f"{number(rows)} (few)" if rows < FEW else number(rows)
