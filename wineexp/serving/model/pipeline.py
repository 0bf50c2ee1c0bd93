"""A version's scikit-learn pipeline, and the checks that need it: types, signature, classes, golden rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_regressor
from threadpoolctl import threadpool_limits

from wineexp.core.errors import UserError
from wineexp.data.schema import NumericFeature, Schema, TextFeature
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.models import persistence
from wineexp.models.golden_rows import check_gap
from wineexp.models.pipeline import outputs
from wineexp.serving.model.files import read_mlmodel, read_schema
from wineexp.serving.model.predictor import Classifier, Model, Regressor
from wineexp.serving.model.rows import RowParser, Rows

# The types of text features in MLflow's signatures.
TEXT_TYPES = ("string", "boolean")


def load_model(folder: Path, parser: RowParser) -> Model:
    """The pipeline in a folder, as what a server predicts with.

    Raises
    ------
    UserError
        It is no model, or holds a type that is not trusted.
    """
    # As in training: the last bits depend on how many threads share a computation.
    threadpool_limits(NATIVE_THREADS)
    pipeline = persistence.load(folder)
    model = pipeline[-1]

    def compute(rows: Rows) -> Any:
        return outputs(pipeline, to_frame(rows, parser))

    if is_regressor(pipeline):
        return Regressor(compute)
    return Classifier(model.classes_.tolist(), compute, model.decide, model.prediction_sets)


def to_frame(rows: Any, parser: RowParser) -> pd.DataFrame:
    """Rows as a table of shape (n_rows, n_features), like the one that the model was trained on."""
    names = list(parser.features)
    if not parser.text_features:
        return pd.DataFrame(np.array(rows, dtype=np.float64).reshape(len(rows), len(names)), columns=names)
    columns = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            feature.name: pd.Series(values, dtype="str" if isinstance(feature, TextFeature) else np.float64)
            for feature, values in zip(parser.schema.features, columns, strict=True)
        }
    )


def load_verified(folder: Path) -> Any:
    """The pipeline in a folder, checked against the schema, MLflow's signature and the golden rows stored with it.

    Raises
    ------
    UserError
        A check fails.
    """
    model, schema = persistence.load(folder), read_schema(folder)
    faults = _signature_faults(schema, _signature_types(folder))
    classes = [] if is_regressor(model) else [str(label) for label in model.classes_]
    if classes != schema.classes:
        faults.append(f"its schema names the classes {schema.classes}, the model {classes}")
    if faults:
        raise UserError(*faults)
    check_gap(persistence.pipeline_golden_rows_gap(model, folder))
    return model


def _signature_types(folder: Path) -> dict[str, str]:
    """The type of each feature in MLflow's signature."""
    try:
        signature: Any = read_mlmodel(folder)["signature"]
        return {column["name"]: column["type"] for column in json.loads(signature["inputs"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"its signature cannot be read ({type(error).__name__}: {error})") from error


def _signature_faults(schema: Schema, types: dict[str, str]) -> list[str]:
    """Where the schema and MLflow's signature disagree."""
    names = [feature.name for feature in schema.features]
    faults = [] if names == list(types) else [f"its schema names the features {names}, its signature {list(types)}"]
    faults += [
        f"feature {feature.name} is a {'number' if isinstance(feature, NumericFeature) else 'text'} in its schema, but "
        f"{types[feature.name]} in its signature"
        for feature in schema.features
        if feature.name in types and (types[feature.name] in TEXT_TYPES) is isinstance(feature, NumericFeature)
    ]
    return faults
