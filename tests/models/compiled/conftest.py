"""Pipelines to compile, and the kernel built once."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from tests.conftest import composed, tree_count_keys
from wineexp.models.compiled import kernel, proof
from wineexp.models.compiled.file_format import Plan
from wineexp.models.compiled.flatten import flatten
from wineexp.workflows.experiment import assemble

Arrays = dict[str, Any]

# Settings with which a model is trained quickly; the number of trees is set for all.
QUICK = {"histgb": ["model.max_iter=15"], "mlp": ["model.tol=0.05"]}


@pytest.fixture(scope="session", autouse=True)
def built_kernel() -> None:
    """The kernel, where there is a C compiler; where there is none, these tests are about numpy alone."""
    kernel.build()


@pytest.fixture(autouse=True)
def fewer_single_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "SMALL_BATCHES", (500, 64, 7, 3, 2, *[1] * 20))


def fit(name: str, feature: str, n_trees: int = 10) -> tuple[Pipeline, pd.DataFrame]:
    """A pipeline of the config's model and features, quickly trained on the cultivar data."""
    few = [f"{key}={n_trees}" for key in tree_count_keys(name)]
    experiment = assemble(composed(f"model={name}", f"feature={feature}", *few, *QUICK.get(name, [])).copy())
    return experiment.fit(), experiment.task.X


def mixed_rows(n_rows: int = 300) -> tuple[pd.DataFrame, pd.Series]:
    """Rows with missing values and two text columns, of two and of three categories; labels dry, extra, sweet."""
    rng = np.random.default_rng(3)
    X = pd.DataFrame(
        {
            "colour": pd.Series(rng.choice(["red", "white"], n_rows), dtype="str"),
            "sugar": rng.lognormal(size=n_rows),
            "ash": rng.normal(size=n_rows),
            "place": pd.Series(rng.choice(["north", "south", "west"], n_rows), dtype="str"),
        }
    )
    X.loc[rng.random(n_rows) < 0.1, "ash"] = np.nan
    y = pd.Series(np.where(X["sugar"] > 1, "sweet", np.where(X["ash"] > 0, "dry", "extra")))
    return X, y


@pytest.fixture(scope="session")
def xgb_domain() -> tuple[Pipeline, pd.DataFrame, Plan, Arrays]:
    """XGBoost over the domain features, and its plan and arrays: to be read only."""
    pipeline, X = fit("xgb", "domain")
    return pipeline, X, *flatten(pipeline, X)
