"""Every model over every choice of features: compiled, it predicts the same bits, or is refused; changed bits show."""

from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

from tests.conftest import choices, composed, installed_models
from tests.models.compiled import test_composition
from tests.models.compiled.conftest import fit, mixed_rows
from wineexp.models import features
from wineexp.models.compiled import compiled_model, kernel
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.file_format import pack, unpack
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.proof import draw_rows, prove
from wineexp.models.compiled.refusal import CannotCompileError
from wineexp.models.pipeline import make_pipeline

COMPILED = ["extratrees", "forest", "histgb", "linear", "logreg", "majority", "mlp", "xgb"]
# `native` is for some models only: see test_native_categories.py.
FEATURES = sorted({*choices("feature")} - {"without", "native"})

# Each model and each choice of features at least once; all other pairs are journeys.
DEFAULT_PAIRS = {
    ("xgb", "raw"),
    ("xgb", "domain"),
    ("xgb", "poly"),
    ("extratrees", "domain"),
    ("forest", "raw"),
    ("histgb", "poly"),
    ("linear", "scaled"),
    ("logreg", "scaled"),
    ("logreg", "domain"),
    ("majority", "raw"),
    ("mlp", "scaled"),
}

# Rows that are compared here; a promotion compares more.
N_ROWS = 1500


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        pytest.param(name, feature, marks=[] if (name, feature) in DEFAULT_PAIRS else pytest.mark.journey)
        for name in COMPILED
        for feature in FEATURES
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_compiled_model_predicts_as_its_pipeline(name: str, feature: str) -> None:
    pipeline, X = fit(name, feature)
    content = pack(*flatten(pipeline, X))
    prove(content, pipeline, X, N_ROWS)
    # Independently of the proof: training rows, all in one call and one by one.
    compiled = compiled_model.load(content)
    table = X.astype(float)
    rows = list(table.itertuples(index=False, name=None))
    with threadpool_limits(1):
        assert compiled.outputs(rows).tolist() == pipeline.predict_proba(table).tolist()
        for row in (0, 50, 100):
            one = pipeline.predict_proba(table.iloc[[row]])
            assert compiled.outputs(rows[row : row + 1]).tolist() == one.tolist()
    assert compiled.classes == pipeline.classes_.tolist()


@pytest.mark.parametrize(
    ("name", "feature", "value", "fault"),
    [("logreg", "scaled", 1e30, r"=(-1e\+30|1e\+30)"), ("extratrees", "raw", 1e39, r"does not refuse, .*=1e\+39")],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_extreme_values_that_are_predicted_otherwise_are_found(
    name: str, feature: str, value: float, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, X = fit(name, feature)
    right = CompiledModel.outputs

    def without_extremes(compiled: CompiledModel, rows: list[tuple[float, ...]]) -> Any:
        return right(compiled, [tuple(0.0 if abs(cell) >= value else cell for cell in row) for row in rows])

    monkeypatch.setattr(CompiledModel, "outputs", without_extremes)
    with pytest.raises(CannotCompileError, match=fault):
        prove(pack(*flatten(pipeline, X)), pipeline, X, N_ROWS)


def test_every_choice_of_features_and_every_model_is_among_the_default_pairs() -> None:
    assert {name for name, _ in DEFAULT_PAIRS} == {*COMPILED}
    assert {feature for _, feature in DEFAULT_PAIRS} == {*FEATURES}


@pytest.mark.parametrize(
    ("name", "classes", "few"),
    [
        ("lightgbm", ["dry", "sweet"], ["model.n_estimators=10"]),
        ("lightgbm", ["dry", "extra", "sweet"], ["model.n_estimators=10"]),
        ("catboost", ["dry", "sweet"], ["model.iterations=10"]),
        ("catboost", ["dry", "extra", "sweet"], ["model.iterations=10"]),
    ],
)
def test_boosting_of_libraries_that_need_not_be_installed(name: str, classes: list[str], few: list[str]) -> None:
    pytest.importorskip(name)
    X, y = mixed_rows()
    X, y = X[y.isin(classes)], y[y.isin(classes)]
    model = instantiate(composed(f"model={name}", *few).model, _convert_="all")
    pipeline = make_pipeline(features.scaled("median"), model, classes).fit(X, y)
    prove(pack(*flatten(pipeline, X)), pipeline, X, N_ROWS)


def test_every_choice_of_models_of_classes_is_compiled() -> None:
    boosting = {name for name in ("catboost", "lightgbm") if name in installed_models()}
    assert {*installed_models()} == {*COMPILED, *test_composition.MODELS, *boosting}


def test_features_that_are_no_column_transformer_are_refused() -> None:
    pipeline, X = fit("majority", "without")
    with pytest.raises(CannotCompileError, match="a Pipeline with its settings cannot be compiled"):
        flatten(pipeline, X)


ALL_CLASSES = ["dry", "extra", "sweet"]


@pytest.mark.parametrize(
    ("feature", "estimator", "classes"),
    [
        (features.raw("median"), XGBClassifier(n_estimators=10, n_jobs=1), ["brut", *ALL_CLASSES]),
        (features.poly("mean", 3, False), XGBClassifier(n_estimators=10, n_jobs=1), ALL_CLASSES),
        (features.poly("mean", 3, True), RandomForestClassifier(10, random_state=0, n_jobs=1), ALL_CLASSES),
        (
            features.domain("median", 0.01, {"sweetness": ["sugar", "ash"], "none": ["sugar", "salt"]}, 1.0),
            RandomForestClassifier(10, random_state=0, n_jobs=1),
            ["brut", *ALL_CLASSES],
        ),
    ],
    ids=["raw", "poly", "interactions", "domain"],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_texts_missing_values_and_classes_without_training_rows(
    feature: Any, estimator: Any, classes: list[str]
) -> None:
    X, y = mixed_rows()
    pipeline = make_pipeline(feature, estimator, classes).fit(X, y)
    content = pack(*flatten(pipeline, X))
    prove(content, pipeline, X, N_ROWS)
    compiled = compiled_model.load(content)
    with_none, with_nan = [("red", 1.0, None, None)], [("red", 1.0, np.nan, np.nan)]
    assert compiled.outputs(with_none).tolist() == compiled.outputs(with_nan).tolist()
    # A text that no training row has is imputed as a missing one is.
    unknown, missing = [("rosé", 1.0, 1.0, "north")], [(None, 1.0, 1.0, "north")]
    assert compiled.outputs(unknown).tolist() == compiled.outputs(missing).tolist()
    assert pipeline.predict_proba(pd.DataFrame(unknown, columns=X.columns)).tolist() == (
        compiled.outputs(missing).tolist()
    )


def test_an_array_may_have_any_order(xgb_domain: Any) -> None:
    _, X, plan, arrays = xgb_domain
    compiled, rows = compiled_model.CompiledModel(plan, arrays), X.to_numpy(dtype=np.float64)
    by_column = np.asfortranarray(rows)
    assert compiled.outputs(by_column).tolist() == compiled.outputs(np.ascontiguousarray(rows)).tolist()


@pytest.mark.parametrize("missing", [0, 0.1], ids=["", "some are missing"])
@pytest.mark.parametrize("classes", [["dry", "sweet"], ALL_CLASSES], ids=len)
def test_texts_of_many_categories(classes: list[str], missing: float) -> None:
    X, y = mixed_rows()
    rng = np.random.default_rng(0)
    towns = [f"town {number}" for number in range(60)]
    X = X.assign(town=rng.choice(towns, len(X)), village=rng.choice(towns, len(X)))
    X["town"] = X["town"].mask(rng.random(len(X)) < missing)
    X, y = X[y.isin(classes)], y[y.isin(classes)]
    pipeline = make_pipeline(features.scaled("median"), LogisticRegression(max_iter=500), classes).fit(X, y)
    n_encoded = 2 * (1 if len(classes) == 2 else 3)
    assert pipeline[:-1].transform(X).shape[1] == 2 + 1 + 3 + n_encoded
    content = pack(*flatten(pipeline, X))
    prove(content, pipeline, X, N_ROWS)
    compiled = compiled_model.load(content)
    row = dict(zip(X.columns, X.iloc[0], strict=True))
    unknown, absent = (compiled.outputs([tuple((row | {"town": town}).values())]) for town in ("Ys", None))
    assert unknown.tolist() == absent.tolist()


@pytest.mark.parametrize(
    ("feature", "estimator"),
    [
        (features.raw("median"), XGBClassifier(n_estimators=10, n_jobs=1)),
        (features.scaled("median"), LogisticRegression(max_iter=500)),
    ],
    ids=["xgboost", "logreg"],
)
def test_dates_and_their_parts(feature: Any, estimator: Any) -> None:
    X, y = mixed_rows()
    rng = np.random.default_rng(0)
    X = X.assign(bottled=rng.integers(10_000, 20_000, len(X)).astype(float), tasted=rng.uniform(-400, 400, len(X)))
    X.loc[rng.random(len(X)) < 0.1, "bottled"] = np.nan
    y = y.where(X["bottled"] % 7 > 1, "dry")
    pipeline = make_pipeline(features.with_dates(feature, ["tasted", "bottled"]), estimator, ALL_CLASSES).fit(X, y)
    assert [name for name in pipeline[:-1].get_feature_names_out() if name.startswith("hour")] == ["hour of tasted"]
    prove(pack(*flatten(pipeline, X)), pipeline, X, N_ROWS)


def test_a_compiled_booster_stops_at_its_best_iteration() -> None:
    X, y = mixed_rows()
    pipeline = make_pipeline(features.raw("median"), XGBClassifier(n_estimators=20, n_jobs=1), ALL_CLASSES).fit(X, y)
    pipeline[-1].estimator_.get_booster().set_attr(best_iteration="7")
    content = pack(*flatten(pipeline, X))
    assert len(unpack(content)[1]["classifier.roots"]) == 8 * 3
    prove(content, pipeline, X, N_ROWS)


@pytest.mark.parametrize(
    "estimator",
    [XGBClassifier(n_estimators=10, n_jobs=1, base_score=0.3), HistGradientBoostingClassifier(max_iter=10)],
    ids=["xgboost", "histgb"],
)
def test_two_classes_share_one_score(estimator: Any) -> None:
    X, y = mixed_rows()
    pipeline = make_pipeline(features.raw("median"), estimator, ["dry", "sweet"]).fit(X, y.replace("extra", "dry"))
    prove(pack(*flatten(pipeline, X)), pipeline, X, N_ROWS)


@pytest.mark.parametrize("name", ["classifier.threshold", "classifier.values", "classifier.base"])
def test_a_changed_last_bit_of_the_trees_is_detected(xgb_domain: Any, name: str) -> None:
    pipeline, X, plan, arrays = xgb_domain
    array = arrays[name].copy()
    used = arrays["classifier.left"] >= 0 if name == "classifier.threshold" else np.ones(len(array), dtype=bool)
    array[used] = np.nextafter(array[used], array.dtype.type(np.inf))
    with pytest.raises(CannotCompileError, match=r"it predicts other"):
        prove(pack(plan, arrays | {name: array}), pipeline, X, N_ROWS)


def test_a_changed_last_bit_of_a_transformer_is_detected() -> None:
    # With a linear model, since XGBoost rounds to single precision, in which the last bit is lost.
    pipeline, X = fit("logreg", "domain")
    plan, arrays = flatten(pipeline, X)
    names = ["transformer2.low", "transformer4.mean", "transformer4.scale", "classifier.weights", "classifier.offset"]
    for name in names:
        changed = arrays | {name: np.nextafter(arrays[name], np.inf)}
        with pytest.raises(CannotCompileError, match="it predicts otherwise for"):
            prove(pack(plan, changed), pipeline, X, N_ROWS)


def test_a_compiled_model_that_refuses_less_than_the_pipeline_is_detected(xgb_domain: Any) -> None:
    pipeline, X, plan, arrays = xgb_domain
    # Clipping before imputation would hide an infinite ratio.
    swapped = {"transformer1": "transformer2", "transformer2": "transformer1"}
    renamed = {}
    for name, array in arrays.items():
        prefix, _, rest = name.partition(".")
        renamed[f"{swapped.get(prefix, prefix)}.{rest}"] = array
    reordered = msgspec.structs.replace(plan, transformers=["ratios", "clip", "impute", "log", "scale"])
    with pytest.raises((CannotCompileError, ValueError), match=r"compiled, it predicts|infinite or too large"):
        prove(pack(reordered, renamed), pipeline, X, N_ROWS)


@pytest.mark.skipif(kernel.build() is None, reason="no C compiler")
def test_numpy_and_the_kernel_predict_the_same_bits(xgb_domain: Any) -> None:
    _, X, plan, arrays = xgb_domain
    rows = list(draw_rows(X, 700, seed=5).itertuples(index=False, name=None))
    with_kernel = CompiledModel(plan, arrays)
    with kernel.numpy_only():
        with_numpy = CompiledModel(plan, arrays)
        assert kernel.library() is None
        assert with_numpy.outputs(rows).tolist() == with_kernel.outputs(rows).tolist()
        assert with_numpy.outputs(rows[:1]).tolist() == with_kernel.outputs(rows[:1]).tolist()
