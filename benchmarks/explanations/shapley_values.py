"""Shapley values beside the library shap, their time, and how they depend on the background: see README.md.

It needs shap, and lightgbm and catboost where their models are to be compared.
"""

import argparse
import importlib.util
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from benchmarks.explanations.models import TREE, FittedModel, fit
from wineexp.models.background import BACKGROUND_ROWS, representative_rows
from wineexp.models.coalitions import MixedColumns, reach_leaves, shapley_values_of_leaves
from wineexp.models.fitted_trees import FittedTrees, fitted_trees

TREES = {name: [f"model={name}"] for name in ("xgb", "histgb", "forest", "extratrees", "lightgbm", "catboost")}
TREES["tree"] = TREE
OPTIONAL = ("lightgbm", "catboost")

COMPARED_ROWS, COMPARED_BACKGROUND = 20, 100
STABILITY_MODELS = ("xgb", "histgb", "forest", "logreg")


def main() -> None:
    """Print all figures of README.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="*", default=["data=red", "target=good", "feature=raw"])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, BACKGROUND_ROWS])
    parser.add_argument("parts", nargs="*", default=["shap", "stability"])
    arguments = parser.parse_args()
    if "shap" in arguments.parts:
        for name, overrides in TREES.items():
            if name not in OPTIONAL or importlib.util.find_spec(name):
                print(
                    f"{name:10} largest difference from shap: {_difference(fit(*arguments.data, *overrides)):.1e}",
                    flush=True,
                )
    if "stability" in arguments.parts:
        for name in STABILITY_MODELS:
            model = fit(*arguments.data, f"model={name}")
            for size in arguments.sizes:
                _print_stability(name, model, size, arguments.rows)


def _difference(model: FittedModel) -> float:
    """The largest difference from shap's interventional values of the scores of any class, for any row and feature.

    These are the trees' own scores: shap has the probabilities of boosted trees by an approximation only. The model is
    fitted to scaled values of single precision with some noise, so that none is equal to a threshold in single
    precision: there shap takes the other side than scikit-learn does.
    """
    import shap

    noise = np.random.default_rng(0).normal(0, 0.01, model.X.shape)
    X = ((model.X - model.X.mean()) / model.X.std() + noise).astype(np.float32).astype(np.float64)
    pipeline = clone(model.pipeline).fit(X, model.y)
    columns = np.asarray(pipeline[:-1].transform(X))
    trees = fitted_trees(pipeline, columns, pipeline.predict_proba(X))
    assert trees is not None
    background = columns[np.linspace(0, len(columns) - 1, COMPARED_BACKGROUND).astype(int)]
    rows = columns[np.linspace(0, len(columns) - 1, COMPARED_ROWS).astype(int)]
    explainer = shap.TreeExplainer(pipeline[-1].estimator_, background, feature_perturbation="interventional")
    expected = np.asarray(explainer.shap_values(rows, check_additivity=False)).reshape(len(rows), columns.shape[1], -1)
    found = np.stack([_values_of_scores(trees, row, background) for row in rows])
    # Of two classes that share a score, shap has one or both.
    return float(np.abs(found - expected[..., : found.shape[-1]]).max())


def _values_of_scores(
    trees: FittedTrees, row: npt.NDArray[np.float64], background: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shapley values of shape (n_columns, n_outputs), with columns as players."""
    players = np.arange(len(row))
    values = np.stack([background, np.broadcast_to(row, background.shape)])
    reached = reach_leaves(trees, MixedColumns((0, 3), values, players, players, len(players)))
    of_outputs = [shapley_values_of_leaves(reached, output, len(players)) for output in trees.values.T]
    return np.stack(of_outputs, axis=1) / len(background)


def _print_stability(name: str, model: FittedModel, size: int, n_rows: int) -> None:
    rows = [model.row(position) for position in np.linspace(0, len(model.X) - 1, n_rows).astype(int).tolist()]
    chosen = [representative_rows(model.X, size, seed=seed) for seed in (0, 1)]
    at_random = [model.X.sample(size, random_state=seed) for seed in (0, 1)]
    agreement = {}
    for kind, backgrounds in (("chosen", chosen), ("random", at_random)):
        first, second = ([_explain(model, background, rows)] for background in backgrounds)
        agreement[kind] = np.mean([a == b for a, b in zip(first[0][0], second[0][0], strict=True)])
        if kind == "chosen":
            seconds = first[0][1]
    print(
        f"{name:8} {size:4} rows: the first three features are the same for {agreement['chosen']:.0%} of rows "
        f"(random backgrounds: {agreement['random']:.0%}); {first[0][2]} rows used, "
        f"{1000 * np.median(seconds):.0f} ms a row, at most {1000 * max(seconds):.0f} ms",
        flush=True,
    )


def _explain(
    model: FittedModel, background: pd.DataFrame, rows: list[dict[str, Any]]
) -> tuple[list[set[str]], list[float], int]:
    """The three features of the largest contributions to each row, the time of each, and the background rows used."""
    explainer = model.explainer_by(background)
    largest, seconds = [], []
    for row in rows:
        start = time.process_time()
        explained = explainer.contributions(row)
        seconds.append(time.process_time() - start)
        largest.append(set(list(explained.contributions)[:3]))
    return largest, seconds, explained.background_rows


if __name__ == "__main__":
    main()
