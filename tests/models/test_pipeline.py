"""Models: every one answers for all classes, whichever of them its training rows hold."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.base import ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression

from tests.conftest import choices, composed
from wineexp.core.errors import UserError
from wineexp.models import persistence
from wineexp.models.pipeline import FixedClassesClassifier, make_pipeline

GRADES = [3, 4, 5, 6, 7]
# Small enough to be quick; the rest is as in conf/model.
SMALL = {"n_estimators": 10, "max_iter": 40, "iterations": 40}


def small(node: Any) -> Any:
    """A node of a config with `SMALL` wherever it is said how much work is to be done, but by a neural network."""
    if not isinstance(node, dict):
        return [small(child) for child in node] if isinstance(node, list) else node
    few = {} if "MLP" in node.get("_target_", "") else SMALL
    return {key: few.get(key, small(child)) for key, child in node.items()}


def classifier(name: str) -> ClassifierMixin:
    package = str(composed(f"model={name}").model._target_).partition(".")[0]
    pytest.importorskip(package, reason=f"the optional package {package} is not installed")
    return instantiate(small(OmegaConf.to_container(composed(f"model={name}").model, resolve=True)), _convert_="all")


@pytest.fixture
def rows() -> tuple[pd.DataFrame, pd.Series]:
    """90 rows of grades 3, 5 and 7 that are easy to tell apart: grades 4 and 6 are missing."""
    rng = np.random.default_rng(0)
    y = pd.Series(np.repeat([3, 5, 7], 30))
    return pd.DataFrame({"a": y + rng.normal(0, 0.2, 90), "b": rng.normal(0, 1, 90)}), y


@pytest.mark.parametrize("name", choices("model"))
def test_a_class_missing_from_the_training_rows_has_probability_0(
    name: str, rows: tuple[pd.DataFrame, pd.Series]
) -> None:
    X, y = rows
    fitted = FixedClassesClassifier(classifier(name), GRADES).fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert fitted.classes_.tolist() == GRADES
    assert fitted.present_.tolist() == [0, 2, 4]
    assert probabilities.shape == (90, 5)
    assert (probabilities[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    predicted = fitted.predict(X)
    assert set(predicted) <= {3, 5, 7}
    if name != "majority":
        # Columns in another order would confuse the grades.
        assert np.mean(predicted == y) > 0.9


@pytest.mark.parametrize("name", choices("model"))
def test_labels_may_be_words_in_an_order_of_their_own(name: str, rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    words = ["low", "middle", "high"]
    named = y.map(dict(zip([3, 5, 7], words, strict=True)))
    by_word = FixedClassesClassifier(classifier(name), words).fit(X, named)
    by_grade = FixedClassesClassifier(classifier(name), [3, 5, 7]).fit(X, y)
    np.testing.assert_array_equal(by_word.predict_proba(X), by_grade.predict_proba(X))
    assert by_word.predict(X).tolist() == [words[(grade - 3) // 2] for grade in by_grade.predict(X)]


@pytest.mark.parametrize("name", choices("model"))
def test_a_model_is_stored_and_loaded_without_pickle(name: str, rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    fitted = make_pipeline(instantiate(composed("feature=raw").feature), classifier(name), GRADES).fit(X, y)
    loaded = skops.io.loads(skops.io.dumps(fitted), trusted=persistence.TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


def test_a_stored_model_of_a_package_that_is_missing_is_told(
    rows: tuple[pd.DataFrame, pd.Series], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skops.io.dump(FixedClassesClassifier(classifier("lightgbm"), GRADES).fit(*rows), tmp_path / persistence.MODEL_FILE)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"of a package that is not installed here: .*lightgbm"):
        persistence.load(tmp_path)


@pytest.mark.parametrize("name", choices("model"))
def test_a_model_decides_as_its_pipeline_does(name: str, rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    estimator = classifier(name)
    before = repr(estimator.get_params())
    fitted = FixedClassesClassifier(estimator, [3, 5, 7]).fit(X, y)
    assert repr(estimator.get_params()) == before, "the estimator that was given stays as it is"
    codes = fitted.decide(fitted.predict_proba(X))
    np.testing.assert_array_equal(fitted.predict(X), np.array([3, 5, 7])[codes])
    # Of one row at a time and of all at once the same, to the last tie.
    one_by_one = [fitted.predict(X.iloc[[place]])[0] for place in range(len(X))]
    np.testing.assert_array_equal(fitted.predict(X), one_by_one)
    if name not in ("xgb", "lightgbm", "catboost"):
        own = clone(estimator).fit(X, y)
        np.testing.assert_array_equal(fitted.predict(X), own.predict(X))


def test_probabilities_are_the_estimators_own(rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    ours = FixedClassesClassifier(LogisticRegression(), GRADES).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(ours[:, [0, 2, 4]], LogisticRegression().fit(X, y).predict_proba(X))


def test_the_first_of_equally_likely_classes_is_predicted(rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    fitted = FixedClassesClassifier(DummyClassifier(strategy="prior"), GRADES).fit(X, y)
    assert set(fitted.predict(X)) == {3}


def test_an_unknown_label_is_refused(rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    with pytest.raises(ValueError, match=r"labels must be among classes=\[3, 5\], but got \[7\]"):
        FixedClassesClassifier(LogisticRegression(), [3, 5]).fit(X, y)


def test_scikit_learns_contract(rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
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


def test_a_pipeline_fits_features_and_model_together(rows: tuple[pd.DataFrame, pd.Series]) -> None:
    X, y = rows
    feature = instantiate(composed("feature=scaled").feature)
    fitted = make_pipeline(feature, classifier("logreg"), np.array(GRADES)).fit(X, y)
    assert fitted.classes_.tolist() == GRADES
    assert fitted.named_steps["model"].classes == GRADES
    assert fitted.named_steps["feature"].get_feature_names_out().tolist() == ["a", "b"]
    assert fitted.score(X, y) > 0.9
