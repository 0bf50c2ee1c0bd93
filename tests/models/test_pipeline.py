"""Every model of conf/model predicts all classes, whichever of them its training rows hold, and can be stored."""

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.base import ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier

from tests.conftest import composed, models_of_classes
from wineexp.data.split import CopiesTogetherKFold
from wineexp.models import persistence
from wineexp.models.decision import LossClassifier
from wineexp.models.ordinal import CumulativeClassifier
from wineexp.models.pipeline import FixedClassesClassifier, make_pipeline, out_of_fold_probabilities

GRADES = [3, 4, 5, 6, 7]
PRESENT_GRADES = [3, 5, 7]

# Settings with which models are trained quickly; the others are those of conf/model.
QUICK = {"n_estimators": 5, "max_iter": 40, "iterations": 40, "folds": 3}
# A neural network needs its many iterations, or warns that it did not converge.
QUICK_MLP = {"learning_rate_init": 0.05, "tol": 0.01}


def with_quick_settings(node: Any) -> Any:
    """A node of a config with `QUICK` or `QUICK_MLP` wherever it has these keys."""
    if isinstance(node, list):
        return [with_quick_settings(child) for child in node]
    if not isinstance(node, dict):
        return node
    quick = QUICK_MLP if "MLP" in node.get("_target_", "") else QUICK
    return {key: quick.get(key, with_quick_settings(child)) for key, child in node.items()}


def classifier(name: str) -> ClassifierMixin:
    config = composed(f"model={name}").model
    package = str(config._target_).partition(".")[0]
    pytest.importorskip(package, reason=f"the optional package {package} is not installed")
    return instantiate(with_quick_settings(OmegaConf.to_container(config, resolve=True)), _convert_="all")


@functools.cache
def rows() -> tuple[pd.DataFrame, pd.Series]:
    """90 rows of grades 3, 5 and 7, which are easy to separate; grades 4 and 6 are missing."""
    rng = np.random.default_rng(0)
    y = pd.Series(np.repeat(PRESENT_GRADES, 30))
    return pd.DataFrame({"a": y + rng.normal(0, 0.2, 90), "b": rng.normal(0, 1, 90)}), y


@functools.cache
def fitted_model(name: str) -> FixedClassesClassifier:
    """A model over all grades, fitted on `rows`: to be read only."""
    return FixedClassesClassifier(classifier(name), GRADES).fit(*rows())


@pytest.mark.parametrize("name", models_of_classes())
def test_a_class_missing_from_the_training_rows_has_probability_0(name: str) -> None:
    X, y = rows()
    fitted = fitted_model(name)
    probabilities = fitted.predict_proba(X)
    assert fitted.classes_.tolist() == GRADES
    assert fitted.present_.tolist() == [0, 2, 4]
    assert probabilities.shape == (90, 5)
    assert (probabilities[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    predicted = fitted.predict(X)
    assert set(predicted) <= {*PRESENT_GRADES}
    if name != "majority":
        # Columns in another order would confuse the grades.
        assert np.mean(predicted == y) > 0.9


@pytest.mark.parametrize("name", models_of_classes())
def test_labels_may_be_words_in_their_own_order(name: str) -> None:
    X, y = rows()
    words = ["low", "middle", "high"]
    y_words = y.map(dict(zip(PRESENT_GRADES, words, strict=True)))
    by_word = FixedClassesClassifier(classifier(name), words).fit(X, y_words)
    by_grade = fitted_model(name)
    np.testing.assert_array_equal(by_word.predict_proba(X), by_grade.predict_proba(X)[:, [0, 2, 4]])
    assert by_word.predict(X).tolist() == [words[(grade - 3) // 2] for grade in by_grade.predict(X)]


@pytest.mark.parametrize("name", models_of_classes())
def test_a_model_is_stored_and_loaded_without_pickle(name: str) -> None:
    X, _ = rows()
    fitted = fitted_model(name)
    loaded = skops.io.loads(skops.io.dumps(fitted), trusted=persistence.TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


@pytest.mark.parametrize("name", models_of_classes())
def test_decisions_are_the_estimators_own_and_depend_on_probabilities_alone(name: str) -> None:
    X, y = rows()
    fitted = fitted_model(name)
    codes = fitted.decide(fitted.predict_proba(X))
    np.testing.assert_array_equal(fitted.predict(X), np.array(GRADES)[codes])
    # One row in a call gets the same decision as many rows, even where probabilities are tied.
    some_rows = range(0, len(X), 6)
    one_by_one = [fitted.predict(X.iloc[[row]])[0] for row in some_rows]
    np.testing.assert_array_equal(fitted.predict(X)[some_rows], one_by_one)
    assert repr(fitted.estimator.get_params()) == repr(classifier(name).get_params()), "the estimator stays as it was"
    if name not in ("xgb", "lightgbm", "catboost"):
        np.testing.assert_array_equal(fitted.predict(X), clone(fitted.estimator).fit(X, y).predict(X))


@functools.cache
def rows_with_a_rare_class(classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """One row of the last class, and 30 of each other one, which are easy to separate."""
    rng = np.random.default_rng(0)
    y = np.r_[np.repeat(classes[:-1], 30), classes[-1]]
    return np.c_[y + rng.normal(0, 0.2, len(y)), rng.normal(size=len(y))], y


# Steps of the logistic regression that combines a stack: fewer do not converge on such rows.
MORE_STEPS = {"stack": {"final__max_iter": 1000}}


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("classes", [(3, 4, 7), (3, 7)])
@pytest.mark.parametrize("name", sorted(set(models_of_classes()) - {"majority"}))
def test_a_class_may_be_missing_from_folds_within_a_model(name: str, classes: tuple[int, ...]) -> None:
    X, y = rows_with_a_rare_class(classes)
    model = classifier(name).set_params(**MORE_STEPS.get(name, {}))
    fitted = FixedClassesClassifier(model, GRADES).fit(X, y)
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[:, [code for code, grade in enumerate(GRADES) if grade not in classes]] == 0).all()
    assert np.mean(fitted.predict(X) == y) > 0.9


FORESTS = ExtraTreesClassifier(5, random_state=0)
BOOSTED = XGBClassifier(n_estimators=5, n_jobs=1)
CV = CopiesTogetherKFold(folds=3, random_state=0)


@pytest.mark.parametrize(
    "model",
    [
        *(
            CalibratedClassifierCV(inner, method=method, ensemble=ensemble, cv=CV)
            for inner in (FORESTS, BOOSTED, LogisticRegression(), LinearSVC())
            for method in ("sigmoid", "isotonic", "temperature")
            for ensemble in (True, False)
        ),
        StackingClassifier([("boosted", BOOSTED), ("line", LogisticRegression())], cv=3),
        VotingClassifier([("calibrated", CalibratedClassifierCV(BOOSTED, cv=CV)), ("forest", FORESTS)], voting="soft"),
        Pipeline([("calibrated", CalibratedClassifierCV(FORESTS, method="temperature", cv=CV))]),
        LossClassifier(CalibratedClassifierCV(BOOSTED, cv=CV), "zero_one"),
        CumulativeClassifier(CalibratedClassifierCV(BOOSTED, cv=CV)),
        GridSearchCV(BOOSTED, {"max_depth": [1, 2]}, cv=3),
        GridSearchCV(BOOSTED, [{"max_depth": [2]}, {"gamma": [0.1]}], cv=3),
        RandomizedSearchCV(BOOSTED, {"max_depth": [1, 2]}, n_iter=1, cv=3),
    ],
)
@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("classes", [(3, 4, 7), (3, 7)])
def test_models_within_scikit_learns_models_know_all_classes(model: ClassifierMixin, classes: tuple[int, ...]) -> None:
    X, y = rows_with_a_rare_class(classes)
    fitted = FixedClassesClassifier(model, list(classes)).fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (len(X), len(classes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Without a row in training, the rare class is never the likeliest; columns in disorder would confuse the others.
    assert np.mean(fitted.predict(X) == y) > 0.9


def test_scores_of_a_class_that_is_missing_are_below_all_others() -> None:
    X, y = rows_with_a_rare_class((3, 4, 7))
    known = LogisticRegression().fit(X, y).decision_function(X)
    np.testing.assert_array_equal(
        FixedClassesClassifier(LogisticRegression(), [3, 4, 7]).fit(X, y).decision_function(X), known
    )
    scores = FixedClassesClassifier(LogisticRegression(), [3, 5, 4, 7]).fit(X, y).decision_function(X)
    np.testing.assert_array_equal(scores[:, [0, 2, 3]], known)
    assert (scores[:, 1] < known.min(axis=1) - 27).all()
    of_two = FixedClassesClassifier(LogisticRegression(), [3, 5], accepts_one_class=True)
    assert (of_two.fit(X[:30], y[:30]).decision_function(X) < -27).all()
    assert not hasattr(FixedClassesClassifier(FORESTS, [3, 5]), "decision_function")


def test_probabilities_are_the_estimators_own() -> None:
    X, y = rows()
    probabilities = FixedClassesClassifier(LogisticRegression(), GRADES).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(probabilities[:, [0, 2, 4]], LogisticRegression().fit(X, y).predict_proba(X))


def test_the_first_of_equally_likely_classes_is_predicted() -> None:
    X, y = rows()
    fitted = FixedClassesClassifier(DummyClassifier(strategy="prior"), GRADES).fit(X, y)
    assert set(fitted.predict(X)) == {3}


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be among classes=\[3, 5\], but got \[7\]"):
        FixedClassesClassifier(LogisticRegression(), [3, 5]).fit(*rows())


def test_the_classifier_follows_scikit_learns_contract() -> None:
    X, y = rows()
    estimator = FixedClassesClassifier(inner := LogisticRegression(C=2.0), GRADES)
    with pytest.raises(NotFittedError):
        estimator.predict_proba(X)
    fitted = estimator.fit(X, y)
    assert fitted is estimator
    assert not hasattr(inner, "coef_"), "the estimator that was given stays unfitted"
    copy = clone(fitted).set_params(estimator__C=3.0)
    assert not hasattr(copy, "estimator_")
    assert copy.classes == GRADES
    assert (copy.estimator.C, inner.C) == (3.0, 2.0)


def test_a_pipeline_fits_features_and_model_together() -> None:
    X, y = rows()
    feature = instantiate(composed("feature=scaled").feature)
    fitted = make_pipeline(feature, classifier("logreg"), np.array(GRADES)).fit(X, y)
    assert fitted.classes_.tolist() == GRADES
    assert fitted.named_steps["model"].classes == GRADES
    assert fitted.named_steps["feature"].get_feature_names_out().tolist() == ["a", "b"]
    assert fitted.score(X, y) > 0.9


def test_a_row_that_is_in_no_test_fold_is_refused() -> None:
    class FirstHalf:
        def split(self, X: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
            return [(np.arange(150, 300), np.arange(150))]

    X, y = np.zeros((300, 1)), np.arange(300) % 2
    with pytest.raises(ValueError, match="every row must be in a test part of cv, but 150 of 300 are not"):
        out_of_fold_probabilities(LogisticRegression(), X, y, FirstHalf())  # type: ignore[arg-type]
