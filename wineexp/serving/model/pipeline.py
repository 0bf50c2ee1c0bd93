"""A version's plain pipeline, and every check that needs one: types, signature, classes, golden rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from wineexp.core.errors import UserError
from wineexp.data.schema import NumericFeature, TextFeature
from wineexp.evaluation.cross_validation import NATIVE_THREADS
from wineexp.models import persistence
from wineexp.models.golden_rows import check_gap
from wineexp.serving.model.files import stored_model, stored_schema
from wineexp.serving.model.predictor import Model
from wineexp.serving.model.rows import Reader, Rows


def loaded(folder: Path, reader: Reader) -> Model:
    """The pipeline in a folder.

    Raises
    ------
    UserError
        It is no model, or holds a type that is not trusted.
    """
    # As where the model was trained: the last bits depend on how many threads share a computation.
    threadpool_limits(NATIVE_THREADS)
    pipeline = persistence.load(folder)
    model = pipeline[-1]

    def ask(rows: Rows) -> Any:
        return pipeline.predict_proba(frame(rows, reader))

    return Model(model.classes_.tolist(), ask, model.decide, model.sets)


def frame(rows: Any, reader: Reader) -> pd.DataFrame:
    """Rows as the table that the model was trained on: (n_rows, n_features)."""
    names = list(reader.features)
    if not reader.texts:
        return pd.DataFrame(np.array(rows, dtype=np.float64).reshape(len(rows), len(names)), columns=names)
    columns = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            feature.name: pd.Series(values, dtype=feature.dtype if isinstance(feature, TextFeature) else np.float64)
            for feature, values in zip(reader.schema.features, columns, strict=True)
        }
    )


def checked(folder: Path) -> Any:
    """The model in a folder, held against the schema, MLflow's signature and the golden rows that are stored with it.

    Raises
    ------
    UserError
        A check fails.
    """
    model, found = persistence.load(folder), stored_schema(folder)
    try:
        signature: Any = stored_model(folder)["signature"]
        inputs = {each["name"]: each["type"] for each in json.loads(signature["inputs"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"its signature cannot be read ({type(error).__name__}: {error})") from error
    faults = []
    names = [feature.name for feature in found.features]
    if names != list(inputs):
        faults.append(f"its schema names the features {names}, its signature {list(inputs)}")
    faults += [
        f"feature {feature.name} is a {'number' if isinstance(feature, NumericFeature) else 'text'} in its schema, but "
        f"{inputs[feature.name]} in its signature"
        for feature in found.features
        if feature.name in inputs and (inputs[feature.name] == "string") is isinstance(feature, NumericFeature)
    ]
    classes = [str(label) for label in model.classes_]
    if classes != found.classes:
        faults.append(f"its schema names the classes {found.classes}, the model {classes}")
    if faults:
        raise UserError(*faults)
    check_gap(persistence.pipeline_golden_rows_gap(model, folder))
    return model
