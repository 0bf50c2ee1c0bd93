"""Feature pipelines: imputed, fitted on training rows alone."""

import numpy as np
import pandas as pd
import pytest
import skops.io
from hydra.utils import instantiate
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from tests.conftest import choices, composed
from wineexp.core.instantiation import build
from wineexp.models import persistence
from wineexp.models.features import scaled, without

FEATURES = choices("feature")
# `native` leaves missing values and categories to the model; tests/models/compiled/test_native_categories.py has it.
PREPARING = [name for name in FEATURES if name != "native"]


def feature(name: str) -> ColumnTransformer:
    return instantiate(composed(f"feature={name}").feature, _convert_="all")


@pytest.fixture
def wines() -> pd.DataFrame:
    """40 wines with some columns that the domain's ratios are made of, a skewed one, and their colour."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "free_sulfur_dioxide": rng.uniform(5, 50, 40),
            "total_sulfur_dioxide": rng.uniform(60, 200, 40),
            "residual_sugar": rng.lognormal(1, 1, 40),
            "alcohol": rng.normal(11, 1, 40),
            "colour": ["red", "white"] * 20,
        }
    )


@pytest.mark.parametrize("name", FEATURES)
def test_transforming_changes_nothing_that_was_fitted(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines.iloc[:30])
    train = fitted.transform(wines.iloc[:30])
    fitted.transform(wines.iloc[30:].assign(alcohol=1e6, residual_sugar=-1e6))
    np.testing.assert_array_equal(fitted.transform(wines.iloc[:30]), train)


@pytest.mark.parametrize("name", FEATURES)
def test_each_row_is_transformed_independently(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines.iloc[:30])
    in_one_call = fitted.transform(wines.iloc[30:])
    one_by_one = np.vstack([fitted.transform(wines.iloc[[row]]) for row in range(30, 40)])
    np.testing.assert_array_equal(in_one_call, one_by_one)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_stored_and_loaded_without_pickle(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines)
    loaded = skops.io.loads(skops.io.dumps(fitted), trusted=persistence.TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.transform(wines), fitted.transform(wines))


@pytest.mark.parametrize("name", PREPARING)
def test_missing_values_are_imputed(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines)
    holes = wines.copy()
    for row, column in enumerate(wines.columns):
        holes.loc[row, column] = np.nan
    assert holes.isna().any().all()
    for X in (feature(name).fit_transform(holes), fitted.transform(holes)):
        assert np.isfinite(X.astype(float)).all()


def test_a_missing_value_becomes_the_training_rows_median(wines: pd.DataFrame) -> None:
    fitted = feature("raw").fit(wines.iloc[:30])
    later = wines.iloc[30:].assign(alcohol=np.nan)
    assert set(fitted.transform(later)[:, 3]) == {wines["alcohol"].iloc[:30].median()}


@pytest.mark.parametrize("name", PREPARING)
def test_a_column_without_any_value_is_imputed(name: str, wines: pd.DataFrame) -> None:
    X = feature(name).fit_transform(wines.assign(alcohol=np.nan))
    assert np.isfinite(X.astype(float)).all()


@pytest.mark.parametrize("name", PREPARING)
def test_colour_becomes_one_column_of_0_and_1(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines)
    names = fitted.get_feature_names_out().tolist()
    assert names[-1] == "colour_white"
    assert fitted.transform(wines)[:, -1].tolist() == [0.0, 1.0] * 20


@pytest.mark.parametrize("name", FEATURES)
def test_names_fit_the_columns_and_are_unique(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines)
    names = fitted.get_feature_names_out().tolist()
    assert len(names) == fitted.transform(wines).shape[1] == len(set(names))
    assert set(names) >= set(wines.columns) - {"colour"}


@pytest.mark.parametrize("name", FEATURES)
def test_a_pipeline_clones_and_a_clone_is_not_fitted(name: str, wines: pd.DataFrame) -> None:
    fitted = feature(name).fit(wines)
    copy = clone(fitted)
    assert copy.get_params().keys() == fitted.get_params().keys()
    plain = (int, float, str, bool, dict)
    for key, value in fitted.get_params().items():
        assert not isinstance(value, plain) or repr(copy.get_params()[key]) == repr(value), key
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)
    np.testing.assert_array_equal(copy.fit_transform(wines), fitted.transform(wines))


def test_raw_leaves_the_measurements_as_they_are(wines: pd.DataFrame) -> None:
    np.testing.assert_array_equal(feature("raw").fit_transform(wines)[:, :4], wines.iloc[:, :4])


@pytest.mark.parametrize("name", sorted(set(PREPARING) - {"raw"}))
def test_all_others_are_scaled(name: str, wines: pd.DataFrame) -> None:
    numbers = feature(name).fit_transform(wines)[:, :-1]
    np.testing.assert_allclose(numbers.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(numbers.std(axis=0), 1)


def test_poly_adds_the_product_of_each_pair(wines: pd.DataFrame) -> None:
    names = feature("poly").fit(wines).get_feature_names_out().tolist()
    assert len(names) == 4 + 6 + 1
    assert "residual_sugar alcohol" in names
    assert "alcohol^2" not in names


def test_domain_adds_the_ratios_that_the_data_has_columns_for(wines: pd.DataFrame) -> None:
    names = feature("domain").fit(wines).get_feature_names_out().tolist()
    assert names[4:] == ["free_to_total_sulfur_dioxide", "sugar_to_alcohol", "colour_white"]


@pytest.mark.usefixtures("wine_quality")
def test_domain_on_the_real_data_knows_all_its_ratios() -> None:
    """A mistyped column in conf/feature/domain.yaml would leave its ratio out of every data set."""
    ratios = set(composed("feature=domain").feature.ratios)
    names: set[str] = set()
    for name in ("cultivar", "quality"):
        dataset = build(composed(f"data={name}"))["data"]()
        names |= set(feature("domain").fit(dataset.frame[list(dataset.features)]).get_feature_names_out())
    assert ratios <= names


def test_columns_are_left_out_by_name() -> None:
    X = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.0, 1.0, 5.0], "c": [3.0, 1.0, 2.0]})
    fitted = without("median", ["b"]).fit(X)
    assert fitted.get_feature_names_out().tolist() == ["a", "c"]
    np.testing.assert_array_equal(fitted.transform(X), scaled("median").fit_transform(X[["a", "c"]]))


@pytest.mark.parametrize(
    ("columns", "message"), [(["b", "alcohl"], "but the data has no alcohl; it has"), (["a", "b"], "has no others")]
)
def test_columns_that_cannot_be_left_out_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        without("median", columns).fit(pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]}))
