"""The performance of a model: by metric, by class, by slice, and the calibration of its probabilities."""

from typing import Any

import numpy as np
import pandas as pd

from wineexp.evaluation.calibration import calibration_curve
from wineexp.evaluation.comparison import ALPHA
from wineexp.evaluation.metrics import score
from wineexp.evaluation.predictions import Predictions, of_classes
from wineexp.reports import run_charts
from wineexp.reports.card.inputs import MIN_ROWS, MUCH_WORSE_SHARE, SLICE_METRIC, CardInputs
from wineexp.reports.document import Paragraph, Part, Picture, Table
from wineexp.reports.text import decimals, enumeration, interval, number, percent, spaced


def metrics(inputs: CardInputs) -> list[Part]:
    """Every metric on the folds and on the holdout, of the model and of the baseline."""
    baseline, rows = inputs.baseline, []
    for name in inputs.summary:
        row = [spaced(name), decimals(*inputs.summary[name])]
        comparison = inputs.against_baseline(name)
        if baseline is not None:
            scores = pd.Series(baseline.folds.get(name, []), dtype=float)
            row.append(decimals(float(scores.mean()), float(scores.std())))
            if comparison is not None:
                row += [interval(comparison.difference, comparison.low, comparison.high), comparison.verdict]
            else:
                row += ["", ""]
        if inputs.holdout is not None:
            row.append(decimals(inputs.holdout_scores.get(name)))
            row += [decimals(baseline.holdout.get(name))] if baseline is not None else []
        rows.append(row)
    columns = ["metric", "folds"]
    text = "Higher is better, except for " + enumeration(
        [spaced(name) for name, metric in inputs.task.metrics.items() if metric.direction == "minimize"]
    )
    text += (
        ", and the width of intervals. What begins with baseline is the score of always "
        "answering the mean of the training rows."
        if inputs.task.target.is_number
        else ". Majority accuracy is the accuracy of always predicting the most frequent class of the training rows."
    )
    if baseline is not None:
        columns += [f"folds, {baseline.name}", "gain", "verdict"]
        text += (
            f" The gain is how much better the model is than the baseline, {baseline.name}, on the same folds, "
            f"positive where the model is better, with its {percent(1 - ALPHA, 0)} interval (the corrected resampled "
            "t-test of Nadeau and Bengio); the verdict is better or worse where the interval leaves out 0."
        )
    if inputs.holdout is not None:
        columns += ["holdout", f"holdout, {baseline.name}"] if baseline is not None else ["holdout"]
    return [Paragraph(text), Table("Mean and standard deviation over the folds", columns, rows)]


def classes(inputs: CardInputs) -> list[Part]:
    """Precision, recall and F1 of each class, on the folds and on the holdout."""
    tables = [_class_table(inputs, "Over all folds", inputs.predictions, inputs.task.y)]
    if inputs.holdout is not None:
        tables.append(_class_table(inputs, "On the holdout", of_classes(inputs.holdout), inputs.task.y_holdout))
    return [
        Paragraph(
            "Precision: how often a prediction of the class is right. Recall: how often a row of the class is "
            f"predicted as such. F1 is their harmonic mean. A class of fewer than {MIN_ROWS} rows is marked."
        ),
        *tables,
    ]


def _class_table(inputs: CardInputs, caption: str, predictions: Predictions, y: pd.Series) -> Table:
    rows = y.value_counts().reindex(inputs.task.classes, fill_value=0)
    return Table(
        caption,
        ["class", "rows", "precision", "recall", "F1"],
        [
            [str(label), marked(rows.iloc[position]), *(decimals(row[name]) for name in ("precision", "recall", "f1"))]
            for position, (label, row) in enumerate(inputs.by_class(predictions).iterrows())
        ],
    )


def slices(inputs: CardInputs) -> list[Part]:
    """The deciding metric on slices of the rows."""
    reason = "that are most important" if inputs.importance is not None else "that separate the classes best"
    columns = {name: spaced(name) for name in dict.fromkeys((inputs.metric, SLICE_METRIC)) if name != "accuracy"}
    return [
        Paragraph(
            f"Rows outside the holdout, by thirds of the features {reason} and by every value of a text: "
            f"{enumeration([spaced(feature) for feature in inputs.slice_features])}. The majority is the share of the "
            f"slice's own most frequent class. The gain is how much better the {spaced(SLICE_METRIC)} is in the slice "
            "than over all rows of the same folds, negative where the model does worse, with its "
            f"{percent(1 - ALPHA, 0)} interval, for each slice by itself; this score is a mean over rows and does not "
            "fall just because a slice has less variety. A slice is better or worse where the interval leaves out 0, "
            f"and much worse where its score is also worse by more than {percent(MUCH_WORSE_SHARE, 0)} of the score "
            "over all rows."
        ),
        Table(
            f"Slices; fewer than {MIN_ROWS} rows are marked",
            ["slice", "rows", "accuracy", "majority", *columns.values(), "gain", "verdict"],
            [
                [
                    str(label),
                    marked(row["rows"]),
                    *(decimals(row[column]) for column in ("accuracy", "majority", *columns)),
                    decimals(None) if np.isnan(row["gain"]) else interval(row["gain"], row["low"], row["high"]),
                    slice_verdict(row),
                ]
                for label, row in inputs.slices.iterrows()
            ],
        ),
    ]


def calibration(inputs: CardInputs) -> list[Part]:
    """Whether predicted probabilities match observed frequencies: in words, as a chart and as a table."""
    predictions = inputs.predictions
    bins = calibration_curve(predictions)
    is_right = predictions.y == predictions.probabilities.argmax(axis=1)
    accuracy = float(np.average(is_right, weights=predictions.weights))
    confidence = float(np.average(predictions.probabilities.max(axis=1), weights=predictions.weights))
    names = ["expected_calibration_error", "brier_score", "log_loss"]
    pooled = score(predictions, names)
    holdout = (
        f", {decimals(inputs.holdout_scores['expected_calibration_error'])} on the holdout" if inputs.holdout else ""
    )
    return [
        Paragraph(
            f"The likeliest class has a probability of {percent(confidence)} on average, and is right "
            f"{percent(accuracy)} of the time. Over all {len(predictions.y):,} predictions on the folds the expected "
            f"calibration error is {decimals(pooled[names[0]])}{holdout}; the Brier score (from 0 to 2) is "
            f"{decimals(pooled[names[1]])}, the log loss {decimals(pooled[names[2]])}."
        ),
        Picture(
            "How often the likeliest class is right",
            run_charts.reliability(bins),
            "; ".join(
                f"predicted {percent(row['confidence'])}, right {percent(row['accuracy'])}"
                for _, row in bins.iterrows()
            ),
        ),
        Table(
            "Predictions in bins of about equal size, by the probability of the likeliest class",
            ["probability", "mean", "right", "predictions"],
            [
                [
                    f"{row['low']:.3f} to {row['high']:.3f}",
                    *(decimals(row[name]) for name in ("confidence", "accuracy")),
                    f"{row['rows']:,.0f}",
                ]
                for _, row in bins.iterrows()
            ],
        ),
    ]


def slice_verdict(row: "pd.Series[Any]") -> str:
    """In words, for a row of `CardInputs.slices`."""
    if row["much_worse"]:
        return "much worse"
    return "worse" if row["high"] < 0 else "better" if row["low"] > 0 else ""


def marked(rows: float) -> str:
    """A number of rows, marked where it is below `MIN_ROWS`."""
    return f"{number(rows)} (few)" if rows < MIN_ROWS else number(rows)
