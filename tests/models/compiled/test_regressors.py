"""Every compiled model of numbers, with each transform of the target: the same bits as its pipeline's."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.kernel_ridge import KernelRidge

from tests.conftest import ONLY_OF_NUMBERS, composed
from tests.houses import houses
from wineexp.models import features
from wineexp.models.compiled import compiled_model
from wineexp.models.compiled.file_format import pack, unpack
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.proof import prove
from wineexp.models.compiled.refusal import CannotCompileError
from wineexp.models.pipeline import outputs
from wineexp.models.regression import make_pipeline

N_ROWS = 1500
OF_MEMBERS = ("extratrees_smooth.n_estimators", "extratrees.n_estimators", "xgb.n_estimators", "histgb.max_iter")

# The target's transform, the model and its overrides.
MODELS: list[tuple[str | None, str, list[str]]] = [
    (None, "extratrees", ["model.n_estimators=7"]),
    ("quantile", "forest", ["model.n_estimators=7"]),
    (None, "histgb", ["model.max_iter=9"]),
    (None, "xgb", ["model.n_estimators=9"]),
    # In single precision, in which the transform is undone as well.
    ("log1p", "xgb", ["model.n_estimators=9"]),
    ("quantile", "xgb", ["model.n_estimators=9"]),
    ("log1p", "ridge", []),
    (None, "linear", []),
    (None, "majority", []),
    ("log1p", "mlp", ["model.max_iter=20"]),
    (None, "neighbours", []),
    ("quantile", "neighbours", ["model.weights=uniform", "model.p=1"]),
    (None, "svr", []),
    ("log1p", "svr", []),
    (None, "selection_of_numbers", [f"model.members.{name}=5" for name in OF_MEMBERS]),
    ("log1p", "stack_of_numbers", [f"model.members.{name}=5" for name in OF_MEMBERS[1:]]),
    # Models that are pipelines.
    (None, "extratrees_of_products", []),
    ("quantile", "kernel_ridge", []),
    # Members that are pipelines.
    ("log1p", "trees_and_kernel_ridge", []),
    ("quantile", "lightgbm", ["model.n_estimators=9"]),
    ("log1p", "catboost", ["model.iterations=9"]),
]


def fit(model: str, *overrides: str, transform: str | None = None) -> tuple[Any, pd.DataFrame]:
    cfg = composed("target=score", "feature=scaled", f"model={model}", *overrides)
    feature, estimator = (instantiate(part, _convert_="all") for part in (cfg.feature, cfg.model))
    rows = houses(120)
    X, y = rows[["area", "district"]].assign(rooms=(rows["area"] / 30).round()), rows["price"]
    return make_pipeline(feature, estimator, transform).fit(X, y), X


@pytest.mark.parametrize(("transform", "model", "overrides"), MODELS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:Stochastic Optimizer")
def test_a_compiled_model_predicts_as_its_pipeline(transform: str | None, model: str, overrides: list[str]) -> None:
    if model in ("lightgbm", "catboost"):
        pytest.importorskip(model)
    pipeline, X = fit(model, *overrides, transform=transform)
    content = pack(*flatten(pipeline, X))
    prove(content, pipeline, X, N_ROWS)
    # Independently of the proof.
    rows = list(X.astype(object).itertuples(index=False, name=None))
    assert compiled_model.load(content).outputs(rows).tolist() == outputs(pipeline, X).tolist()


def test_every_model_of_numbers_is_among_those() -> None:
    assert {model for _, model, _ in MODELS} >= ONLY_OF_NUMBERS


def test_neighbours_at_equal_distances_with_unequal_numbers() -> None:
    X = pd.DataFrame({"first": np.repeat(np.arange(60.0), 4), "second": np.tile([1.0, 1.0, 2.0, 2.0], 60)})
    y = np.random.default_rng(0).normal(size=len(X))
    model = instantiate(composed("target=score", "model=neighbours").model)
    pipeline = make_pipeline(features.raw("median"), model, None).fit(X, y)
    prove(pack(*flatten(pipeline, X)), pipeline, X, N_ROWS)


@pytest.mark.parametrize(
    ("model", "array"),
    [
        ("ridge", "undone.quantiles"),
        ("ridge", "regressor.weights"),
        ("ridge", "regressor.offset"),
        ("kernel_ridge", "regressor.member0.transformer1.high"),
        *(("kernel_ridge", f"regressor.member0.member0.{name}") for name in ("rows", "weights", "exponent")),
    ],
)
def test_another_bit_is_found(model: str, array: str) -> None:
    pipeline, X = fit(model, transform="quantile")
    plan, arrays = unpack(pack(*flatten(pipeline, X)))
    arrays[array] = np.nextafter(arrays[array], np.inf)
    with pytest.raises(CannotCompileError, match="it predicts otherwise"):
        prove(pack(plan, arrays), pipeline, X, N_ROWS)


def test_what_is_not_compiled_is_named() -> None:
    with pytest.raises(CannotCompileError, match="a KNeighborsRegressor with its settings cannot be compiled"):
        flatten(*fit("neighbours", "model.p=3"))
    with pytest.raises(
        CannotCompileError, match="a HistGradientBoostingRegressor with loss=poisson cannot be compiled"
    ):
        flatten(*fit("histgb", "model.max_iter=2", "+model.loss=poisson"))
    X = pd.DataFrame({"x": np.arange(9.0)})
    for kernel, name in (("rbf", "rbf"), (1.0 * RBF() + WhiteKernel(), "Sum")):
        pipeline = make_pipeline(features.raw("median"), KernelRidge(kernel=kernel), None).fit(X, X["x"])
        with pytest.raises(CannotCompileError, match=f"a KernelRidge with the kernel {name} cannot be compiled"):
            flatten(pipeline, X)
