"""Figures of a run: drawn from answers on rows that the model was not trained on."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from wineexp.evaluation.palette import PALETTE

# A figure is stored as one image, which is drawn in the light theme.
INK, WINE = PALETTE["ink"][0], PALETTE["wine"][0]


def _figure(title: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.2 * panels, 4.4), layout="constrained")
    figure.suptitle(title, color=INK)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def confusion(y: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp], classes: list[str]) -> Figure:
    """Counts and row shares of each true class (n_samples,) by predicted class (n_samples,)."""
    counts = confusion_matrix(y, predicted, labels=range(len(classes)))
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


def reliability(
    y: npt.NDArray[np.intp], predicted: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What was expected and what came true, in up to ten equally full bins of confidence.

    Of two classes, the second one's probability; of more, the likeliest one's.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    predicted : ndarray of shape (n_samples, n_classes)

    Returns
    -------
    expected, observed : ndarrays of shape (n_bins,)
    """
    if predicted.shape[1] == 2:
        confidence, happened = predicted[:, 1], y == 1
    else:
        confidence, happened = predicted.max(axis=1), y == predicted.argmax(axis=1)
    observed, expected = calibration_curve(happened, confidence, n_bins=10, strategy="quantile")
    return expected, observed


def probabilities(y: npt.NDArray[np.intp], predicted: npt.NDArray[np.float64], classes: list[str]) -> Figure:
    """Reliability of the probabilities (n_samples, n_classes), and for two classes the ROC curve."""
    binary = len(classes) == 2
    figure, axes = _figure("Probabilities, out of fold", panels=1 + binary)
    if binary:
        confidence, happened = predicted[:, 1], y == 1
        if 0 < happened.sum() < len(happened):
            false_positive, true_positive, _ = roc_curve(happened, confidence)
            area = roc_auc_score(happened, confidence)
            axes[1].plot(false_positive, true_positive, color=WINE, label=f"area {area:.3f}")
        axes[1].plot([0, 1], [0, 1], color="grey", linestyle=":")
        axes[1].set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        axes[1].legend(loc="lower right", frameon=False)
    expected, observed = reliability(y, predicted)
    axes[0].plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes[0].plot(expected, observed, color=WINE, marker="o")
    label = f"probability of {classes[1] if binary else 'the likeliest class'}"
    axes[0].set(xlabel=label, ylabel="how often it was so", title="Calibration", xlim=(0, 1), ylim=(0, 1))
    return figure


def importance(features: list[str], drops: npt.NDArray[np.float64], metric: str) -> Figure:
    """How far the metric falls when a feature is shuffled; drops has shape (n_features, n_repeats)."""
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


def grades(y: npt.NDArray[np.intp], predicted: npt.NDArray[np.float64], classes: list[str]) -> Figure:
    """Expected position among ordered classes, by true class, from probabilities (n_samples, n_classes)."""
    expected = pd.Series(predicted @ np.arange(len(classes)))
    present = [position for position in range(len(classes)) if (y == position).any()]
    figure, (axis,) = _figure("Predicted against true, out of fold")
    axis.plot([-0.5, len(classes) - 0.5], [-0.5, len(classes) - 0.5], color="grey", linestyle=":")
    axis.boxplot(
        [expected[y == position] for position in present],
        positions=present,
        widths=0.6,
        flierprops={"marker": ".", "markeredgecolor": WINE, "alpha": 0.4},
        medianprops={"color": WINE},
    )
    axis.set_xticks(range(len(classes)), classes)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="true", ylabel="expected")
    return figure
