"""The parts of a card that differ where a model predicts numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wineexp.evaluation import cross_validation
from wineexp.evaluation.baseline import BASELINE
from wineexp.evaluation.calibration import binned_numbers
from wineexp.evaluation.comparison import ALPHA
from wineexp.evaluation.intervals import COVERAGE
from wineexp.evaluation.predictions import NumberPredictions
from wineexp.reports import run_charts
from wineexp.reports.card.inputs import MIN_ROWS, MUCH_WORSE_SHARE, CardInputs
from wineexp.reports.card.performance import marked, slice_verdict
from wineexp.reports.document import Paragraph, Part, Picture, Table
from wineexp.reports.text import decimals, enumeration, interval, number, percent, spaced

QUANTILES = {"least": 0.0, "a tenth below": 0.1, "half below": 0.5, "nine tenths below": 0.9, "greatest": 1.0}


def unit(inputs: CardInputs) -> str:
    """The unit of the target with a blank before it; empty where the data set does not say it."""
    of_target = inputs.task.dataset.units.get(inputs.task.target.column, "")
    return f" {of_target}" if of_target else ""


def predicted_as(inputs: CardInputs) -> str:
    """What is predicted, as the end of a clause."""
    y = inputs.task.y
    learned = {
        None: "",
        "log1p": ", of which it learns the logarithm",
        "quantile": ", of which it learns the quantile in the training rows",
    }[inputs.task.target.transform]
    return f"as a number{learned}, from {number(y.min())} to {number(y.max())}{unit(inputs)} in the training rows"


def error_of_mean(inputs: CardInputs) -> tuple[str, float, float]:
    """An error, the deciding metric where that is one: its name, the model's, and that of always answering the mean."""
    name = next(name for name in (inputs.metric, "root_mean_squared_error") if f"{BASELINE}{name}" in inputs.summary)
    return name, inputs.summary[name][0], inputs.summary[f"{BASELINE}{name}"][0]


def tile_of_mean(inputs: CardInputs) -> tuple[str, str]:
    """The figure of always answering the mean, and what it is."""
    name, _, of_mean = error_of_mean(inputs)
    return decimals(of_mean), f"{spaced(name)} of always answering the mean of the training rows"


def distribution(inputs: CardInputs) -> Table:
    """How the target's numbers are distributed, among the rows trained on and those held out."""
    task = inputs.task
    parts = {"trained on": task.y, "held out": task.y_holdout}
    return Table(
        f"The numbers of {spaced(task.target.column)}{unit(inputs)}",
        ["rows", *(name for name in QUANTILES), "mean"],
        [
            [
                f"{name}, {len(y):,}",
                *(number(float(y.quantile(share))) for share in QUANTILES.values()),
                number(float(y.mean())),
            ]
            for name, y in parts.items()
            if len(y)
        ],
    )


def errors(inputs: CardInputs) -> list[Part]:
    """True by predicted numbers: in words, as a chart and as a table."""
    predictions = _pooled(inputs)
    bins = binned_numbers(predictions)
    off = predictions.errors
    half, most = (number(float(np.quantile(off, share))) for share in (0.5, 0.9))
    bias = float(np.mean(predictions.predicted - predictions.y))
    column = spaced(inputs.task.target.column)
    return [
        Paragraph(
            f"Half of all {len(off):,} predictions on the folds are off by at most {half}{unit(inputs)}, nine of ten "
            f"by at most {most}{unit(inputs)}. On average they are {number(abs(bias))} too "
            f"{'high' if bias >= 0 else 'low'}."
        ),
        Picture(
            f"The mean of the true {column} by the predicted one",
            run_charts.predicted_numbers(bins, column),
            "; ".join(
                f"predicted {number(row['predicted'])}, true {number(row['true'])}" for _, row in bins.iterrows()
            ),
        ),
        Table(
            "Predictions in bins of about equal size",
            ["mean predicted", "mean true", "predictions"],
            [[number(row["predicted"]), number(row["true"]), f"{row['rows']:,.0f}"] for _, row in bins.iterrows()],
        ),
    ]


def slices(inputs: CardInputs) -> list[Part]:
    """The errors on slices of the rows."""
    reason = "that are most important" if inputs.importance is not None else "that separate the numbers best"
    columns = {name: spaced(name) for name in dict.fromkeys((inputs.metric, inputs.slice_metric))}
    held = ["in the interval"] if "coverage" in inputs.slices else []
    return [
        Paragraph(
            f"Rows outside the holdout, by thirds of the features {reason} and by every value of a text: "
            f"{enumeration([spaced(feature) for feature in inputs.slice_features])}. The mean is that of "
            f"{spaced(inputs.task.target.column)} in the slice. The gain is how much less the "
            f"{spaced(inputs.slice_metric)} is in the slice than over all rows of the same folds, negative where the "
            f"model does worse, with its {percent(1 - ALPHA, 0)} interval, for each slice by itself. A slice is better "
            "or worse where the interval leaves out 0, and much worse where its error is also greater by more than "
            f"{percent(MUCH_WORSE_SHARE, 0)} of that over all rows."
        ),
        Table(
            f"Slices; fewer than {MIN_ROWS} rows are marked",
            ["slice", "rows", "mean", *columns.values(), *held, "gain", "verdict"],
            [
                [
                    str(label),
                    marked(row["rows"]),
                    number(row["mean"]),
                    *(decimals(row[column]) for column in columns),
                    *([percent(row["coverage"])] if held else []),
                    decimals(None) if np.isnan(row["gain"]) else interval(row["gain"], row["low"], row["high"]),
                    slice_verdict(row),
                ]
                for label, row in inputs.slices.iterrows()
            ],
        ),
    ]


def intervals(inputs: CardInputs) -> list[Part]:
    """How often prediction intervals hold the true number, and how wide they are."""
    summary, held_out = inputs.summary, inputs.holdout_scores
    if "interval_coverage" not in summary:
        return [Paragraph("There were too few rows for prediction intervals.")]
    on_holdout = f", {percent(held_out['interval_coverage'])} on the holdout" if held_out else ""
    table = pd.DataFrame(_intervals_by_row(inputs))
    thirds = table.groupby(pd.qcut(table["predicted"], 3, duplicates="drop"), observed=True)
    return [
        Paragraph(
            f"Each prediction has an interval that is to hold the true number in {percent(COVERAGE, 0)} of the cases. "
            "It comes from the errors of predictions of about the same size on rows that were not trained on. On "
            f"the folds, where the errors are those of the other folds, {percent(summary['interval_coverage'][0])} of "
            f"the intervals hold it{on_holdout}; their mean width is "
            f"{number(summary['interval_width'][0])}{unit(inputs)}. The distribution of these errors around the "
            f"prediction has a CRPS of {number(summary['crps'][0])}; the ends of the intervals, as quantiles, have a "
            f"pinball loss of {number(summary['pinball'][0])}."
        ),
        Table(
            "Intervals by the size of the prediction, over all folds",
            ["predictions from", "to", "number", "hold the true number", "mean width"],
            [
                [
                    number(part["predicted"].min()),
                    number(part["predicted"].max()),
                    f"{len(part):,}",
                    percent(part["held"].mean()),
                    number(part["width"].mean()),
                ]
                for _, part in thirds
            ],
        ),
    ]


def _intervals_by_row(inputs: CardInputs) -> dict[str, npt.NDArray[Any]]:
    """The out-of-fold predictions, whether their intervals hold the true number, and their widths."""
    pooled = _pooled(inputs)
    low, high = np.asarray(pooled.low), np.asarray(pooled.high)
    return {"predicted": pooled.predicted, "held": (pooled.y >= low) & (pooled.y <= high), "width": high - low}


def _pooled(inputs: CardInputs) -> NumberPredictions:
    pooled = cross_validation.pool_predictions(inputs.folds)
    assert isinstance(pooled, NumberPredictions)  # noqa: S101  for mypy
    return pooled
