"""Stored models: refused by name where a type is not trusted, is old or cannot be imported; compared by golden rows."""

import io
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.datasets import load_breast_cancer
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
    WhiteKernel,
)
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from wineexp.core.errors import UserError
from wineexp.models import features, persistence
from wineexp.models.golden_rows import MAX_GAP, check_gap, golden_rows_gap, read_golden_rows
from wineexp.models.manifest import EXTRA_FOLDER, GOLDEN_ROWS_FILE
from wineexp.models.persistence import MODEL_FILE
from wineexp.models.pipeline import make_pipeline

X = pd.DataFrame({"alcohol": [9.0, 10.0, np.nan, 12.5], "colour": ["red", "white", "red", "white"]})
Y = [3, 3, 5, 5]


@pytest.fixture(scope="module")
def fitted() -> Pipeline:
    return make_pipeline(features.without("median", []), LogisticRegression(), [3, 4, 5]).fit(X, Y)


@pytest.fixture
def folder(fitted: Pipeline, tmp_path: Path) -> Path:
    """The files of a stored model."""
    skops.io.dump(fitted, tmp_path / MODEL_FILE)
    (tmp_path / EXTRA_FOLDER).mkdir()
    (tmp_path / EXTRA_FOLDER / GOLDEN_ROWS_FILE).write_text(persistence.write_golden_rows(fitted, X))
    return tmp_path


def replace_in_schema(path: Path, old: str, new: str) -> None:
    """Change the description of the types in a skops file."""
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            entry = source.read(name)
            if name == "schema.json":
                assert old.encode() in entry
                entry = entry.replace(old.encode(), new.encode())
            target.writestr(name, entry)


def test_a_stored_model_predicts_the_same_bits(fitted: Pipeline, folder: Path) -> None:
    loaded = persistence.load(folder)
    assert loaded.predict_proba(X).tolist() == fitted.predict_proba(X).tolist()
    assert persistence.stored_bytes(fitted) == (folder / MODEL_FILE).stat().st_size


@pytest.mark.parametrize(
    ("new_module", "old_module", "old_type"),
    [
        ("wineexp.models.pipeline", "wineexp.model", "FixedClassesClassifier"),
        ("wineexp.models.transformers", "wineexp.feature", "LeaveOut"),
    ],
)
def test_a_model_stored_by_wineexp_0_1_is_refused_by_name(
    folder: Path, new_module: str, old_module: str, old_type: str
) -> None:
    replace_in_schema(folder / MODEL_FILE, f'"{new_module}"', f'"{old_module}"')
    with pytest.raises(UserError) as refusal:
        persistence.load(folder)
    assert re.match(rf"the model holds .*{old_module}\.{old_type}: it was stored by wineexp 0\.1", str(refusal.value))
    assert "promote it anew" in str(refusal.value)


def test_a_type_that_is_not_trusted_is_refused(folder: Path) -> None:
    replace_in_schema(folder / MODEL_FILE, '"wineexp.models.transformers"', '"elsewhere.transformers"')
    message = r"the model holds .*elsewhere\.transformers\.LeaveOut, .* not trusted.*WINEEXP_TRUSTED_TYPES="
    with pytest.raises(UserError, match=message):
        persistence.load(folder)


def test_kernels_are_trusted() -> None:
    kernel = ConstantKernel() * Matern() + DotProduct() * RBF() + RationalQuadratic() + ExpSineSquared() + WhiteKernel()
    persistence.check_types(KernelRidge(kernel=kernel).fit(np.eye(3), np.arange(3.0)))


def test_a_model_of_a_package_that_is_not_installed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sklearn.linear_model")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"of a package that is not installed here: .*sklearn\.linear_model"):
        persistence.load(folder)


def test_a_file_that_is_missing_or_cut_short_is_refused(folder: Path) -> None:
    path = folder / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.skops is no whole skops file \(BadZipFile"):
        persistence.load(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"the stored model has no model\.skops"):
        persistence.load(folder)


def test_golden_rows_of_many_columns_are_predicted_to_the_same_bits(tmp_path: Path) -> None:
    data = load_breast_cancer(as_frame=True)
    rows = data.data.iloc[::20]
    pipeline = make_pipeline(features.scaled("median"), LogisticRegression(), [0, 1]).fit(data.data, data.target)
    (tmp_path / EXTRA_FOLDER).mkdir()
    (tmp_path / EXTRA_FOLDER / GOLDEN_ROWS_FILE).write_text(persistence.write_golden_rows(pipeline, rows))
    assert persistence.pipeline_golden_rows_gap(pipeline, tmp_path) == 0


def test_golden_rows_hold_the_models_predictions(fitted: Pipeline, folder: Path) -> None:
    golden = read_golden_rows(folder)
    pd.testing.assert_frame_equal(persistence.golden_frame(golden), X, check_dtype=False)
    assert golden.outputs.tolist() == fitted.predict_proba(X).tolist()
    assert [[3, 4, 5][code] for code in golden.decisions] == fitted.predict(X).tolist()
    assert golden.prediction_sets is None
    assert persistence.pipeline_golden_rows_gap(fitted, folder) == 0


def test_the_gap_is_the_largest_difference(folder: Path) -> None:
    golden = read_golden_rows(folder)
    shifted = golden.outputs.copy()
    shifted[1, 2] += 2e-6
    gap = golden_rows_gap(lambda rows: shifted[: len(rows)], golden)
    assert gap == pytest.approx(2e-6)
    check_gap(MAX_GAP)
    for wrong in (gap, float("nan")):
        with pytest.raises(UserError, match=r"its predictions on its golden rows are off by .*; at most 1e-06 is"):
            check_gap(wrong)


def test_golden_rows_that_cannot_be_read_or_predicted_are_refused(fitted: Pipeline, folder: Path) -> None:
    golden = read_golden_rows(folder)
    with pytest.raises(UserError, match=r"cannot predict its golden rows .*have shape \(4, 2\), not \(4, 3\)"):
        golden_rows_gap(lambda _: golden.outputs[:, :2], golden)
    path = folder / EXTRA_FOLDER / GOLDEN_ROWS_FILE
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"rows": {"columns": ["alcohol"], "data": [[9.0]] * 4}}))
    with pytest.raises(UserError, match="cannot predict its golden rows"):
        persistence.pipeline_golden_rows_gap(fitted, folder)
    path.write_text(json.dumps({name: stored[name] for name in ("rows", "probabilities")}))
    with pytest.raises(UserError, match=r"golden rows of the stored model cannot be read \(KeyError: 'decisions'\)"):
        read_golden_rows(folder)
    path.unlink()
    with pytest.raises(UserError, match="golden rows of the stored model cannot be read"):
        read_golden_rows(folder)
