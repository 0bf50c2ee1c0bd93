"""Arguments of models that speak of labels or columns mean the user's, whatever features and folds make of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.conftest import composed
from wineexp.core.errors import UserError
from wineexp.models import features
from wineexp.models.arguments import estimators_within
from wineexp.models.column_arguments import bind_columns
from wineexp.models.decision import LossClassifier
from wineexp.models.label_arguments import label_faults
from wineexp.models.ordinal import CumulativeClassifier
from wineexp.models.pipeline import FixedClassesClassifier, make_pipeline
from wineexp.workflows.experiment import Experiment, assemble


def experiment(*overrides: str) -> Experiment:
    return assemble(composed(*overrides))


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as refused:
        experiment(*overrides)
    return str(refused.value)


def test_a_class_weight_means_the_target_s_label() -> None:
    weighted = experiment("model=logreg", "model.C=0.001", "model.class_weight={2:50}")
    assert set(weighted.fit().predict(weighted.task.X)) == {2}
    weights = experiment("model=logreg", "model.class_weight={1:1,2:1,3:5}").fit()[-1].estimator_.class_weight
    assert weights == {0: 1, 1: 1, 2: 5}


def test_labels_that_the_target_lacks_are_refused_together_with_unknown_columns() -> None:
    message = refusal(
        *("model=stack", "model.members.logreg.class_weight={0:2,4:5}", "+model.members.extratrees.class_weight={9:1}"),
        "+model.members.xgb.monotone_constraints={alcohl:1}",
    )
    assert message.startswith("3 faults")
    assert (
        "model.members.logreg.class_weight={0: 2, 4: 5}: the target has no class 0, 4; its classes are 1, 2, 3"
        in message
    )
    assert "model.members.extratrees.class_weight={9: 1}: the target has no class 9" in message
    assert "the data has no column alcohl; did you mean alcohol?" in message


# Rows of class good only, and of two others; the class fair is missing.
X_WORDS = np.linspace(0, 1, 30)[:, None]
WORDS = ["poor", "fair", "good"]
Y_WORDS = np.repeat(["poor", "good", "poor"], 10)


@pytest.mark.parametrize(
    ("model", "equal"),
    [
        (LogisticRegression(class_weight={"good": 5, "fair": 3}), LogisticRegression(class_weight={0: 1, 1: 5})),
        (LogisticRegression(class_weight="balanced"), LogisticRegression(class_weight="balanced")),
        (GaussianNB(priors=[0.2, 0.6, 0.2]), GaussianNB(priors=[0.5, 0.5])),
        (LinearDiscriminantAnalysis(priors=[0.1, 0.6, 0.3]), LinearDiscriminantAnalysis(priors=[0.25, 0.75])),
        (DummyClassifier(strategy="constant", constant="good"), DummyClassifier(strategy="constant", constant=1)),
        (
            LossClassifier(LogisticRegression(class_weight={"good": 5}), "zero_one"),
            LossClassifier(LogisticRegression(class_weight={0: 1, 1: 5}), "zero_one"),
        ),
        (
            CalibratedClassifierCV(LogisticRegression(class_weight={"poor": 4}), cv=3),
            CalibratedClassifierCV(LogisticRegression(class_weight={0: 4, 1: 1}), cv=3),
        ),
        (
            Pipeline([("scale", FunctionTransformer()), ("model", LogisticRegression(class_weight={"good": 5}))]),
            LogisticRegression(class_weight={0: 1, 1: 5}),
        ),
    ],
)
def test_labels_keep_their_meaning_where_a_class_is_missing(model: Any, equal: Any) -> None:
    assert label_faults(model, WORDS) == []
    fitted = FixedClassesClassifier(model, WORDS).fit(X_WORDS, Y_WORDS)
    expected = equal.fit(X_WORDS, (Y_WORDS == "good").astype(int)).predict_proba(X_WORDS)
    np.testing.assert_allclose(fitted.predict_proba(X_WORDS)[:, [0, 2]], expected)


def test_a_kernel_is_no_estimator_within_another() -> None:
    model = GaussianProcessClassifier(1.0 * RBF())
    assert list(estimators_within(model)) == ["model"]
    assert label_faults(model, WORDS) == []


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (DummyClassifier(strategy="constant", constant="bad"), "model.constant=bad: the target has no class bad"),
        (
            GaussianNB(priors=[0.5, 0.5]),
            "one value for each class is wanted, in the order of the classes poor, fair",
        ),
        (LogisticRegression(class_weight=[1, 2]), "give the weights by class, as in {poor: 1, good: 2}"),
        (
            CumulativeClassifier(LogisticRegression(class_weight={"good": 5})),
            "model.estimator.class_weight={'good': 5}: a CumulativeClassifier trains this classifier on other classes",
        ),
    ],
)
def test_an_argument_that_labels_cannot_be_translated_in_is_refused(model: Any, part: str) -> None:
    (fault,) = label_faults(model, WORDS)
    assert part in fault


def test_a_label_that_a_fold_lacks_is_named() -> None:
    model = DummyClassifier(strategy="constant", constant="fair")
    with pytest.raises(ValueError, match=r"model\.constant=fair: the training rows of a fold have no row of this"):
        FixedClassesClassifier(model, WORDS).fit(X_WORDS, Y_WORDS)


def trend(fitted: Pipeline, X: pd.DataFrame, column: str) -> set[int]:
    """The signs of the changes of the second class's probability while a column grows in some rows."""
    values = np.linspace(X[column].min(), X[column].max(), 30)
    signs: set[int] = set()
    for place in range(0, len(X), 20):
        rows = pd.concat([X.iloc[[place]]] * len(values)).assign(**{column: values})
        signs |= set(np.sign(np.diff(fitted.predict_proba(rows)[:, 1]).round(9)).astype(int).tolist())
    return signs - {0}


@pytest.fixture(scope="module")
def table() -> tuple[pd.DataFrame, pd.Series]:
    """120 rows of two classes and two columns of numbers after one of words; neither column is monotone by itself."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"colour": rng.choice(["red", "rose", "white"], 120), "sugar": rng.normal(size=120)})
    X["acid"] = rng.normal(size=120)
    return X, pd.Series((np.sin(3 * X["acid"]) + np.sin(3 * X["sugar"]) > 0).map({False: "no", True: "yes"}))


def fitted_model(table: tuple[pd.DataFrame, pd.Series], feature: Any, model: Any) -> Pipeline:
    X, y = table
    feature, model, faults = bind_columns(feature, model, X, y)
    assert faults == []
    return make_pipeline(feature, model, ["no", "yes"]).fit(X, y)


def xgboost(**arguments: Any) -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, **arguments)


@pytest.mark.parametrize("feature", [features.raw("median"), features.scaled("median")])
@pytest.mark.parametrize(
    "model",
    [
        xgboost(monotone_constraints={"acid": 1}),
        HistGradientBoostingClassifier(max_iter=20, monotonic_cst={"acid": 1}),
        # By position in the data, where acid is the third column; of the features it is the second.
        HistGradientBoostingClassifier(max_iter=20, monotonic_cst=[0, 0, 1]),
        LossClassifier(xgboost(monotone_constraints={"acid": 1}), "zero_one"),
    ],
)
def test_the_answer_only_rises_with_the_column_that_is_named(
    table: tuple[pd.DataFrame, pd.Series], feature: Any, model: Any
) -> None:
    fitted = fitted_model(table, feature, model)
    assert trend(fitted, table[0], "acid") == {1}
    assert trend(fitted, table[0], "sugar") == {-1, 1}


@pytest.mark.parametrize(
    "model",
    [
        xgboost(interaction_constraints=[["colour", "acid"], ["sugar"]]),
        HistGradientBoostingClassifier(max_iter=20, interaction_cst=[[0, 2], [1]]),
    ],
)
def test_columns_interact_only_as_they_are_named(table: tuple[pd.DataFrame, pd.Series], model: Any) -> None:
    fitted = fitted_model(table, features.scaled("median"), model)
    rows = pd.DataFrame([{"colour": "red", "sugar": s, "acid": a} for s in (-1.0, 1.0) for a in (-1.0, 1.0)])
    odds = np.log(fitted.predict_proba(rows)[:, 1] / fitted.predict_proba(rows)[:, 0])
    # Without an interaction, the effect of sugar does not depend on acid.
    assert odds[0] - odds[2] == pytest.approx(odds[1] - odds[3], abs=1e-4)


def test_categories_are_columns_as_they_are(table: tuple[pd.DataFrame, pd.Series]) -> None:
    X = table[0].assign(code=np.arange(120) % 4)
    for value in (["code"], [3], [False, False, False, True]):
        model = HistGradientBoostingClassifier(max_iter=5, categorical_features=value)
        fitted = fitted_model((X, table[1]), features.raw("median"), model)
        assert fitted[-1].estimator_.is_categorical_.tolist() == [False, False, True, False, False, False]


NEGATIVE = FunctionTransformer(np.negative, feature_names_out="one-to-one")


@pytest.mark.parametrize(
    ("feature", "arguments", "part"),
    [
        (
            features.poly("median", 2, True),
            {"monotonic_cst": {"acid": 1}},
            "makes of acid, or of it and others: acid",
        ),
        (features.poly("median", 2, True), {"interaction_cst": [["acid"]]}, "sugar acid mix these columns with others"),
        (features.raw("median"), {"monotonic_cst": {"colour": 1}}, "makes of colour"),
        (features.raw("median"), {"monotonic_cst": [1, 0]}, "2 values for 3 columns; give them by name"),
        (features.scaled("median"), {"categorical_features": ["acid"]}, "changes the values of acid"),
        (features.without("median", ["acid"]), {"monotonic_cst": {"acid": 1}}, "no feature is made of acid"),
        (NEGATIVE, {"monotonic_cst": {"acid": 1}}, "the feature acid does not increase with acid"),
        (features.raw("median"), {"interaction_cst": [["acd"]]}, "the data has no column acd; did you mean acid?"),
    ],
)
def test_what_cannot_be_said_of_a_column_is_refused_by_name(
    table: tuple[pd.DataFrame, pd.Series], feature: Any, arguments: Mapping[str, Any], part: str
) -> None:
    X = table[0].drop(columns="colour") if feature is NEGATIVE else table[0]
    _, _, (fault,) = bind_columns(feature, HistGradientBoostingClassifier(**arguments), X, table[1])
    assert fault.startswith(f"model.{next(iter(arguments))}=")
    assert part in fault


def test_a_word_of_the_library_is_left_as_it_is(table: tuple[pd.DataFrame, pd.Series]) -> None:
    model = HistGradientBoostingClassifier(max_iter=5, interaction_cst="no_interactions")
    feature = features.raw("median")
    same, _, _ = bind_columns(feature, model, *table)
    assert same is feature
    assert fitted_model(table, feature, model)[-1].estimator_.interaction_cst == "no_interactions"


@pytest.mark.parametrize("package", ["lightgbm", "catboost"])
def test_optional_libraries_are_told_of_labels_and_features_as_they_take_them(package: str) -> None:
    library = pytest.importorskip(package)
    quick = {"n_jobs": 1, "verbosity": -1} if package == "lightgbm" else {"verbose": 0, "allow_writing_files": False}
    model_type = library.LGBMClassifier if package == "lightgbm" else library.CatBoostClassifier
    weights = "class_weight" if package == "lightgbm" else "class_weights"
    model = model_type(n_estimators=5, **{weights: {"poor": 1000, "fair": 3}}, **quick)
    fitted = clone(make_pipeline(FunctionTransformer(), model, WORDS)).fit(X_WORDS, Y_WORDS)
    assert set(fitted.predict(X_WORDS)) == {"poor"}
    if package == "catboost":
        X = pd.DataFrame({"a": X_WORDS[:, 0], "b": X_WORDS[::-1, 0]})
        arguments = {"monotone_constraints": {"b": 1}, "feature_weights": {"a": 2.0}}
        model = model_type(n_estimators=5, **arguments, **quick)
        named = clone(FixedClassesClassifier(model, WORDS)).fit(X, Y_WORDS).estimator_.get_params()
        assert named["monotone_constraints"] == "(0,1)"
        assert named["feature_weights"] == [2.0, 1.0]
