"""Models that hold other models or training rows: compiled, they predict the same bits, and decide the same."""

import contextlib
from functools import cache, reduce
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra.utils import instantiate
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from tests.conftest import composed
from tests.models.compiled.conftest import mixed_rows
from wineexp.core.errors import UserError
from wineexp.data.split import CopiesTogetherKFold
from wineexp.models import features
from wineexp.models.compiled import compiled_model, kernel
from wineexp.models.compiled.compiled_model import CompiledModel
from wineexp.models.compiled.file_format import Part, pack
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.proof import prove
from wineexp.models.compiled.refusal import CannotCompileError
from wineexp.models.ensemble import SelectionClassifier
from wineexp.models.pipeline import make_pipeline

# Rows that are compared here; a promotion compares more.
N_ROWS = 700
CLASSES = ("dry", "extra", "sweet")
FEW_TREES = ["model.estimator.n_estimators=5"]
OF_MEMBERS = ["model.members.extratrees.n_estimators=5", "model.members.xgb.n_estimators=5"]
MODELS = {
    "calibrated": FEW_TREES,
    "conformal": FEW_TREES,
    "cumulative": FEW_TREES,
    "decided": FEW_TREES,
    "median": FEW_TREES,
    "neighbours": [],
    "selection": [
        *OF_MEMBERS,
        *(f"model.members.{name}.n_estimators=5" for name in ("extratrees_smooth", "extratrees_entropy")),
        "model.members.mlp.tol=0.05",
    ],
    "selection_with_kernel_ridge": [
        f"model.members.{name}.n_estimators=5" for name in ("extratrees", "extratrees_smooth", "extratrees_entropy")
    ],
    "stack": OF_MEMBERS,
    "svm": [],
    "thresholds": FEW_TREES,
}


@cache
def fit(name: str, *overrides: str, classes: tuple[str, ...] = CLASSES) -> tuple[Pipeline, pd.DataFrame]:
    """A pipeline with texts and missing values, and the rows that it was fitted on: to be read only."""
    return fit_model(instantiate(composed(f"model={name}", *MODELS[name], *overrides).model, _convert_="all"), classes)


def fit_model(model: Any, classes: tuple[str, ...] = CLASSES) -> tuple[Pipeline, pd.DataFrame]:
    X, y = mixed_rows(200)
    X, y = X[y.isin(classes)], y[y.isin(classes)]
    return make_pipeline(features.scaled("median"), model, classes).fit(X, y), X


def check(pipeline: Pipeline, X: pd.DataFrame) -> CompiledModel:
    """The compiled model, which must predict and decide as the pipeline does."""
    content = pack(*flatten(pipeline, X))
    prove(content, pipeline, X, N_ROWS)
    # Independently of the proof.
    compiled = compiled_model.load(content)
    outputs = compiled.outputs(list(X.astype(object).itertuples(index=False, name=None)))
    assert outputs.tolist() == pipeline.predict_proba(X).tolist()
    decided = [compiled.classes[position] for position in compiled.decide(outputs)]
    assert decided == pipeline.predict(X).tolist()
    return compiled


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_predicts_and_decides_as_its_pipeline(name: str) -> None:
    pipeline, X = fit(name)
    compiled = check(pipeline, X)
    probabilities = pipeline.predict_proba(X)
    sets, expected = compiled.prediction_sets(probabilities), pipeline[-1].prediction_sets(probabilities)
    assert (sets is None) == (expected is None) == (name != "conformal")
    assert sets is None or sets.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("name", "overrides", "classes"),
    [
        ("calibrated", ["model.method=sigmoid"], ("dry", "sweet")),
        ("calibrated", ["model.method=isotonic"], CLASSES),
        # Of scores, which are no probabilities.
        ("svm", ["model.method=temperature"], ("dry", "sweet")),
        ("selection", ["model.temper=false"], ("dry", "sweet")),
        ("neighbours", ["model.weights=uniform", "model.n_neighbors=120"], ("dry", "sweet")),
    ],
)
def test_settings_and_two_classes(name: str, overrides: list[str], classes: tuple[str, ...]) -> None:
    check(*fit(name, *overrides, classes=classes))


def test_members_with_steps_of_their_own_within_other_members() -> None:
    steps = Pipeline([("products", PolynomialFeatures(include_bias=False)), ("scaler", StandardScaler())])
    near = Pipeline([*steps.steps, ("near", SVC())])
    calibrated = CalibratedClassifierCV(near, ensemble=False, cv=3)
    line = Pipeline([*steps.steps, ("line", LogisticRegression())])
    cv = CopiesTogetherKFold(folds=3, random_state=0)
    check(*fit_model(SelectionClassifier({"near": calibrated, "line": line}, "log_loss", 9, "accuracy", True, cv)))


def test_members_whose_rows_lack_a_class() -> None:
    _, y = mixed_rows(200)
    of_class = {name: np.flatnonzero(y == name) for name in CLASSES}
    folds = [
        (np.concatenate([of_class[name] for name in trained]), np.arange(len(y)))
        for trained in (["dry"], ["dry", "sweet"], ["extra", "sweet"])
    ]
    for member in (SVC(), LogisticRegression()):
        check(*fit_model(CalibratedClassifierCV(member, ensemble=True, cv=folds)))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("selection", "classifier.weights"),
        ("selection", "classifier.temperature"),
        ("neighbours", "classifier.rows"),
        ("svm", "classifier.member0.slope"),
        ("svm", "classifier.member0.member0.member0.vectors"),
        ("svm", "classifier.member0.member0.member0.weights"),
        ("svm", "classifier.member0.member0.member0.gamma"),
        ("thresholds", "classifier.slope"),
        ("thresholds", "classifier.member0.values"),
    ],
)
def test_a_changed_last_bit_is_detected(name: str, array: str) -> None:
    pipeline, X = fit(name)
    plan, arrays = flatten(pipeline, X)
    with pytest.raises(CannotCompileError, match="it predicts otherwise for"):
        prove(pack(plan, arrays | {array: np.nextafter(arrays[array], np.inf)}), pipeline, X, N_ROWS)


def test_other_decisions_and_sets_are_detected() -> None:
    pipeline, X = fit("conformal")
    plan, arrays = flatten(pipeline, X)
    for change in ({"set_thresholds": [0.9, 0.9, 0.9]}, {"utility": np.eye(3)[::-1].tolist()}):
        changed = type(plan)(**{field: getattr(plan, field) for field in plan.__struct_fields__} | change)
        with pytest.raises(CannotCompileError, match="it decides otherwise, or gives other prediction sets"):
            prove(pack(changed, arrays), pipeline, X, N_ROWS)


@pytest.mark.skipif(kernel.build() is None, reason="no C compiler")
@pytest.mark.parametrize("name", ["neighbours", "svm"])
def test_numpy_and_the_kernel_predict_the_same_bits(name: str) -> None:
    pipeline, X = fit(name)
    plan, arrays = flatten(pipeline, X)
    rows = list(X.astype(object).itertuples(index=False, name=None))
    with_kernel = CompiledModel(plan, arrays).outputs(rows)
    with kernel.numpy_only():
        assert CompiledModel(plan, arrays).outputs(rows).tolist() == with_kernel.tolist()


@pytest.mark.parametrize("name", ["neighbours", "svm"])
def test_with_random_bytes_a_model_is_refused_or_predicts(name: str) -> None:
    pipeline, X = fit(name)
    plan, arrays = flatten(pipeline, X)
    rows = list(X.iloc[:2].astype(object).itertuples(index=False, name=None))
    rng, predicted = np.random.default_rng(7), 0
    own = [name for name in arrays if name.startswith("classifier")]
    for _ in range(150):
        changed = {array: arrays[array].copy() for array in arrays}
        as_bytes = changed[rng.choice(own)].view(np.uint8).reshape(-1)
        as_bytes[rng.integers(len(as_bytes), size=3)] = rng.integers(256, size=3)
        with contextlib.suppress(UserError, ValueError), np.errstate(all="ignore"):
            assert CompiledModel(plan, changed).outputs(rows).shape == (2, 3)
            predicted += 1
    assert 0 < predicted < 150


class Unknown(LogisticRegression):
    """A class of a user's own."""


def test_what_is_not_compiled_is_named() -> None:
    cv = CopiesTogetherKFold(folds=3, random_state=0)
    pipeline, X = fit_model(SelectionClassifier({"own": Unknown()}, "log_loss", 2, "accuracy", False, cv))
    with pytest.raises(CannotCompileError, match="a model Unknown cannot be compiled"):
        flatten(pipeline, X)
    pipeline, X = fit("svm", "model.estimator.kernel=linear")
    with pytest.raises(CannotCompileError, match="a SVC with kernel=linear cannot be compiled"):
        flatten(pipeline, X)
    pipeline, X = fit("neighbours", "model.algorithm=brute")
    with pytest.raises(CannotCompileError, match="a KNeighborsClassifier that searches with algorithm=brute cannot"):
        flatten(pipeline, X)
    pipeline, X = fit_model(CalibratedClassifierCV(Unknown(), cv=3))
    with pytest.raises(CannotCompileError, match="the scores of a Unknown cannot be compiled"):
        flatten(pipeline, X)


SVM_SCORES = Part("fixed_classes", [Part("support_vectors")])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "calibrated has 0 members, but must have one or more"),
        ([Part("oracle")], "classifier oracle is unknown"),
        ([Part("sigmoid_calibration", [])], "sigmoid_calibration has 0 members, but must have one"),
        ([Part("sigmoid_calibration", [Part("forest")])], "scores of forest are unknown"),
        ([Part("sigmoid_calibration", [SVM_SCORES, SVM_SCORES])], "has 2 members, but must have one"),
        ([Part("sigmoid_calibration", [Part("support_vectors", [SVM_SCORES])])], "has 1 members, but must have none"),
        ([Part("pipeline", [SVM_SCORES], transformers=["guess"])], "transformer guess is unknown"),
        ([Part("pipeline", [SVM_SCORES], memory_order="Z")], "memory_order is Z"),
        ([reduce(lambda within, _: Part("finite", [within]), range(21), SVM_SCORES)], "each other more than 20 times"),
    ],
)
def test_a_plan_with_wrong_members_is_refused(members: list[Part], message: str) -> None:
    plan, arrays = flatten(*fit("svm"))
    fields = {field: getattr(plan, field) for field in plan.__struct_fields__}
    with pytest.raises(UserError, match=message):
        compiled_model.load(pack(type(plan)(**fields | {"members": members}), arrays))


@pytest.mark.parametrize(
    ("model", "name", "value", "message"),
    [
        ("svm", "classifier.member0.member0.present", [0, 0, 1], "must know one class or more, each once"),
        ("svm", "classifier.member0.member0.present", [0, 1, 3], "holds an index out of the range 0 to 2"),
        ("svm", "classifier.member0.member0.member0.counts", [1, 1, 1], "not as many as their classes have"),
        ("neighbours", "classifier.n_neighbours", [0], "more neighbours than it has training rows, or for none"),
        ("neighbours", "classifier.n_neighbours", [999], "more neighbours than it has training rows, or for none"),
        ("neighbours", "classifier.is_leaf", 0, "leads to a node that does not exist"),
        ("neighbours", "classifier.exponent", 3, "distances must be 1 or 2, but is 3"),
        ("neighbours", "classifier.ends", 999, "ends of the compiled model holds an index out of the range"),
        ("neighbours", "classifier.codes", 3, "codes of the compiled model holds an index out of the range 0 to 2"),
    ],
)
def test_wrong_arrays_are_refused(model: str, name: str, value: list[int] | int, message: str) -> None:
    plan, arrays = flatten(*fit(model))
    changed = np.array(value, dtype=np.int32) if isinstance(value, list) else np.full_like(arrays[name], value)
    with pytest.raises(UserError, match=message):
        compiled_model.load(pack(plan, arrays | {name: changed}))
