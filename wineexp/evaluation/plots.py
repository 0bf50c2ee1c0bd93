"""Figures of a run, drawn from predictions on rows that the model was not trained on."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from wineexp.evaluation.calibration import binned_numbers, calibrated_class, calibration_curve
from wineexp.evaluation.palette import PALETTE
from wineexp.evaluation.predictions import NumberPredictions, Predictions

# A figure is stored as one image, which is drawn in the light theme.
INK, WINE = PALETTE["ink"][0], PALETTE["wine"][0]


def _figure(title: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.2 * panels, 4.4), layout="constrained")
    figure.suptitle(title, color=INK)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def confusion(predictions: Predictions, classes: list[str]) -> Figure:
    """Confusion matrix: cells show counts of rows, coloured by their share of the true class; weights do not count."""
    counts = confusion_matrix(predictions.y, predictions.predicted, labels=range(len(classes)))
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    figure, (axis,) = _figure("Confusion, out of fold")
    axis.imshow(shares, cmap="RdPu", vmin=0, vmax=1)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else INK
        axis.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure


def probabilities(predictions: Predictions, classes: list[str]) -> Figure:
    """Calibration curve of the probabilities and, for two classes, the ROC curve."""
    code = calibrated_class(len(classes))
    figure, axes = _figure("Probabilities, out of fold", panels=1 if code is None else 2)
    if code is not None:
        confidence, positive = predictions.probabilities[:, code], predictions.y == code
        if 0 < positive.sum() < len(positive):
            false_positive, true_positive, _ = roc_curve(positive, confidence, sample_weight=predictions.weights)
            area = roc_auc_score(positive, confidence, sample_weight=predictions.weights)
            axes[1].plot(false_positive, true_positive, color=WINE, label=f"area {area:.3f}")
        axes[1].plot([0, 1], [0, 1], color="grey", linestyle=":")
        axes[1].set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        axes[1].legend(loc="lower right", frameon=False)
    curve = calibration_curve(predictions, code=code)
    axes[0].plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes[0].plot(curve["confidence"], curve["accuracy"], color=WINE, marker="o")
    label = f"probability of {'the likeliest class' if code is None else classes[code]}"
    axes[0].set(xlabel=label, ylabel="how often it was so", title="Calibration", xlim=(0, 1), ylim=(0, 1))
    return figure


def predicted_numbers(predictions: NumberPredictions, column: str) -> Figure:
    """Predicted against true numbers, with their means by bins of the prediction; and errors by the prediction.

    Between the ends of intervals, where there are any, most errors lie.
    """
    y, predicted = predictions.y, predictions.predicted
    ends = [min(y.min(), predicted.min()), max(y.max(), predicted.max())]
    figure, (against, errors) = _figure("Predictions, out of fold", panels=2)
    against.scatter(predicted, y, s=12, color=WINE, alpha=0.25, linewidths=0)
    against.plot(ends, ends, color="grey", linestyle=":")
    bins = binned_numbers(predictions)
    against.plot(bins["predicted"], bins["true"], color=INK, marker="o", label="mean")
    against.set(xlabel=f"predicted {column}", ylabel=f"true {column}", title="True by predicted")
    against.legend(loc="upper left", frameon=False)
    errors.scatter(predicted, y - predicted, s=12, color=WINE, alpha=0.25, linewidths=0)
    errors.axhline(0, color="grey", linestyle=":")
    if predictions.low is not None and predictions.high is not None:
        order = np.argsort(predicted)
        for label, end in (("interval", predictions.low), (None, predictions.high)):
            errors.plot(predicted[order], (end - predicted)[order], color=INK, linewidth=1, label=label)
        errors.legend(loc="upper left", frameon=False)
    errors.set(xlabel=f"predicted {column}", ylabel="true less predicted", title="Errors")
    return figure


def importance(features: list[str], drops: npt.NDArray[np.float64], metric: str) -> Figure:
    """How much worse the metric gets when a feature is shuffled; drops has shape (n_features, n_repeats)."""
    order = np.argsort(drops.mean(axis=1))
    figure, (axis,) = _figure("Permutation importance")
    axis.barh(
        [features[position] for position in order],
        drops.mean(axis=1)[order],
        xerr=drops.std(axis=1)[order],
        color=WINE,
    )
    axis.set(xlabel=f"loss of {metric}\nwhen the feature is shuffled")
    return figure


def grades(predictions: Predictions, classes: list[str]) -> Figure:
    """Box plots of the expected class, as a number, which the probabilities give, by true class."""
    values = np.arange(len(classes), dtype=float) if predictions.values is None else predictions.values
    expected = pd.Series(predictions.probabilities @ values)
    present = [position for position in range(len(classes)) if (predictions.y == position).any()]
    gap = float(np.diff(values).min())
    figure, (axis,) = _figure("Predicted against true, out of fold")
    ends = [values[0] - gap / 2, values[-1] + gap / 2]
    axis.plot(ends, ends, color="grey", linestyle=":")
    axis.boxplot(
        [expected[predictions.y == position] for position in present],
        positions=values[present],
        widths=0.6 * gap,
        flierprops={"marker": ".", "markeredgecolor": WINE, "alpha": 0.4},
        medianprops={"color": WINE},
    )
    axis.set_xticks(values, classes)
    axis.set_yticks(values, classes)
    axis.set(xlabel="true", ylabel="expected")
    return figure
