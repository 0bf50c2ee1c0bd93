"""Exponentials that are no library function."""

import numpy as np

from wineexp.models.compiled.link_functions import fast_exponential


def test_the_exponential_of_catboost_approximates_the_exact_one() -> None:
    values = -np.concatenate([np.linspace(0, 1, 999), np.geomspace(1e-9, 700, 999)])
    np.testing.assert_allclose(fast_exponential(values), np.exp(values), rtol=1e-13)
    assert fast_exponential(np.array([0.0, -709.0, -1e9])).tolist() == [1, 0, 0]
