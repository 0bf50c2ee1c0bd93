"""This project's transformers: on values worked out by hand, and by scikit-learn's contract."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from wineexp.models.transformers import QuantileClipper, Ratios, SkewedLog

OWN_TRANSFORMERS = [QuantileClipper(0.1), SkewedLog(1.0), Ratios({"a_to_b": ["a", "b"]})]


def test_ratios_by_hand() -> None:
    X = pd.DataFrame({"a": [6.0, 1.0, 2.0, np.nan], "b": [3.0, 0.0, np.nan, 4.0]})
    ratios = Ratios({"a_to_b": ["a", "b"], "c_to_d": ["c", "d"]}).fit(X)
    np.testing.assert_array_equal(ratios.transform(X)[:, 2], [2, 0, np.nan, np.nan])
    np.testing.assert_array_equal(ratios.transform(X)[:, :2], X)
    assert ratios.get_feature_names_out().tolist() == ["a", "b", "a_to_b"]


def test_half_a_ratio_is_left_out() -> None:
    X = pd.DataFrame({"a": [6.0], "b": [3.0]})
    ratios = Ratios({"a_to_c": ["a", "c"], "b_to_a": ["b", "a"]}).fit(X)
    assert ratios.transform(X).tolist() == [[6.0, 3.0, 0.5]]


def test_clipping_by_hand() -> None:
    X = np.arange(11.0).reshape(-1, 1)
    clipper = QuantileClipper(0.1).fit(X)
    assert (clipper.low_.tolist(), clipper.high_.tolist()) == ([1.0], [9.0])
    assert clipper.transform([[-100.0], [0.5], [5.0], [9.5], [1e9]]).ravel().tolist() == [1, 1, 5, 9, 9]


@pytest.mark.parametrize("quantile", [-0.1, 0.5])
def test_a_quantile_out_of_range_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match=f"0 <= quantile < 0.5 must hold, but got quantile={quantile}"):
        QuantileClipper(quantile).fit([[1.0], [2.0]])


def test_skewed_columns_by_hand() -> None:
    # Skewness of (0, 0, 0, 1): p = 1/4, (1 - 2p) / sqrt(p (1 - p)) = 1.1547.
    skewed, even, constant, negative = [0, 0, 0, 1], [0, 0, 1, 1], [2, 2, 2, 2], [-1, -1, -1, 5]
    X = np.array([skewed, even, constant, negative], dtype=float).T
    assert SkewedLog(1.15).fit(X).skewed_.tolist() == [True, False, False, False]
    assert SkewedLog(1.16).fit(X).skewed_.tolist() == [False] * 4
    logged = SkewedLog(1.15).fit(X).transform([[np.e - 1, 3, 2, -1], [-5, 3, 2, -1]])
    np.testing.assert_allclose(logged, [[1, 3, 2, -1], [0, 3, 2, -1]])


@pytest.mark.parametrize("transformer", OWN_TRANSFORMERS, ids=lambda transformer: type(transformer).__name__)
def test_own_transformers_follow_scikit_learns_contract(transformer: TransformerMixin) -> None:
    X = pd.DataFrame({"a": [6.0, 1.0, 2.0, 90.0], "b": [3.0, 1.0, 5.0, 4.0]})
    params = transformer.get_params()
    copy = clone(transformer)
    assert copy.get_params() == params
    with pytest.raises(NotFittedError):
        copy.transform(X)
    before = X.copy()
    copy.fit(X)
    out = copy.transform(X)
    pd.testing.assert_frame_equal(X, before)
    assert copy.get_params() == params, "fitting changes no parameter"
    assert out.shape == (4, len(copy.get_feature_names_out()))
    with pytest.raises(ValueError, match="feature names"):
        copy.transform(X[["b", "a"]])


@parametrize_with_checks([QuantileClipper(0.1), SkewedLog(1.0)])
def test_scikit_learns_conformance_checks(estimator: TransformerMixin, check: object) -> None:
    check(estimator)
