"""Models that hold other models: compiled, they predict the same bits as their pipelines, and decide the same."""

import pandas as pd
import pytest
from hydra.utils import instantiate
from sklearn.pipeline import Pipeline

from tests.conftest import composed
from tests.models.compiled.conftest import mixed_rows
from wineexp.models import features
from wineexp.models.compiled import compiled_model
from wineexp.models.compiled.file_format import pack
from wineexp.models.compiled.flatten import flatten
from wineexp.models.compiled.proof import prove
from wineexp.models.pipeline import make_pipeline

# Rows that are compared here; a promotion compares more.
N_ROWS = 900
CLASSES = ["dry", "extra", "sweet"]
FEW_TREES = ["model.estimator.n_estimators=5"]
MODELS = {
    "decided": FEW_TREES,
    "median": FEW_TREES,
    "conformal": FEW_TREES,
}


def fit(name: str, *overrides: str, classes: list[str] = CLASSES) -> tuple[Pipeline, pd.DataFrame]:
    """A pipeline with texts and missing values, and the rows that it was fitted on."""
    X, y = mixed_rows(200)
    few = [*MODELS[name], "target=score" if name.endswith("numbers") else "target=cultivar"]
    model = instantiate(composed(f"model={name}", *few, *overrides).model, _convert_="all")
    known = y.isin(classes)
    return make_pipeline(features.scaled("median"), model, classes).fit(X[known], y[known]), X[known]


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_predicts_and_decides_as_its_pipeline(name: str) -> None:
    pipeline, X = fit(name)
    content = pack(*flatten(pipeline, X))
    prove(content, pipeline, X, N_ROWS)
    # Independently of the proof.
    compiled = compiled_model.load(content)
    outputs = compiled.outputs(list(X.astype(object).itertuples(index=False, name=None)))
    assert outputs.tolist() == pipeline.predict_proba(X).tolist()
    assert [CLASSES[position] for position in compiled.decide(outputs)] == pipeline.predict(X).tolist()
    sets, expected = compiled.prediction_sets(outputs), pipeline[-1].prediction_sets(outputs)
    assert (sets is None) == (expected is None) == (name != "conformal")
    assert sets is None or sets.tolist() == expected.tolist()
