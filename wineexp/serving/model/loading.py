"""Loads a version from its files and checks everything about it that needs no registry."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from wineexp.core.errors import UserError
from wineexp.models import manifest
from wineexp.models.compiled import compiled_model
from wineexp.models.compiled.file_format import COMPILED
from wineexp.models.golden_rows import check_gap, golden_rows_gap, read_golden_rows
from wineexp.serving.model.cache import CachedVersion
from wineexp.serving.model.files import read_mlmodel, read_schema
from wineexp.serving.model.predictor import Classifier, Lineage, Model, Predictor, Regressor
from wineexp.serving.model.rows import RowParser


def load(folder: Path, version: CachedVersion, alias: str, *, max_rows: int) -> Predictor:
    """A version from its files, after the checks of its schema, its golden rows and a first prediction.

    Parameters
    ----------
    folder : Path
        Verified against the version's digests already.
    version : CachedVersion
    alias : str
    max_rows : int
        Rows that one request may hold.

    Raises
    ------
    UserError
        A check fails.
    """
    schema = read_schema(folder)
    parser = RowParser(schema, max_rows)
    model, form_name = _load_model(folder, version, parser)
    golden_max_difference = _golden_rows_gap(folder, model)
    check_gap(golden_max_difference)
    return _warmed_up(
        Predictor(
            model=model,
            version=version,
            mlflow_version=str(read_mlmodel(folder).get("mlflow_version", "")),
            lineage=Lineage(
                name=version.name,
                alias=alias,
                version=version.number,
                run_id=version.run_id,
                config_sha256=version.tags.get("config.sha256", ""),
                data_md5=version.tags.get("data.md5", ""),
            ),
            schema=schema,
            form=form_name,
            parser=parser,
            card=_read_text(folder / manifest.EXTRA_FOLDER / manifest.CARD_FILE),
            card_page=_read_text(folder / manifest.EXTRA_FOLDER / manifest.CARD_PAGE_FILE),
            golden_max_difference=golden_max_difference,
            row_seconds=0.0,
            loaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def _load_model(folder: Path, version: CachedVersion, parser: RowParser) -> tuple[Model, str]:
    """The compiled model where there is one, else the pipeline; with `COMPILED`, or why it was not compiled."""
    packed = folder / manifest.EXTRA_FOLDER / manifest.COMPILED_MODEL_FILE
    if packed.exists():
        compiled = compiled_model.load(packed.read_bytes())
        model: Model
        if compiled.plan.regressor:
            model = Regressor(compiled.outputs)
        else:
            model = Classifier(compiled.classes, compiled.outputs, compiled.decide, compiled.prediction_sets)
        form_name = COMPILED
        if compiled.plan.columns != list(parser.features) or {*compiled.plan.text_names} != parser.text_features:
            raise UserError("its compiled model has other features than its schema names")
    else:
        # Imports pandas and scikit-learn, which a process that serves a compiled version goes without.
        from wineexp.serving.model.pipeline import load_model

        model, form_name = load_model(folder, parser), version.form
    classes = [str(label) for label in model.labels] if isinstance(model, Classifier) else []
    if classes != parser.schema.classes:
        raise UserError(f"its schema names the classes {parser.schema.classes}, the model {classes}")
    return model, form_name


def _golden_rows_gap(folder: Path, model: Model) -> float:
    """The largest difference between predictions of the golden rows and those that were stored.

    Raises
    ------
    UserError
        The golden rows cannot be read or predicted, or a decision or prediction set differs.
    """
    golden = read_golden_rows(folder)
    gap = golden_rows_gap(model.outputs, golden)
    if not isinstance(model, Classifier):
        return gap
    # Both are computed from the stored probabilities: those of another processor may lie beyond a threshold.
    prediction_sets = model.prediction_sets(golden.outputs)
    differing = []
    if model.decide(golden.outputs).tolist() != golden.decisions:
        differing.append("decisions")
    if (None if prediction_sets is None else prediction_sets.tolist()) != golden.prediction_sets:
        differing.append("prediction sets")
    if differing:
        raise UserError(f"its {' and '.join(differing)} on its golden rows are not those that were stored with it")
    return gap


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _warmed_up(predictor: Predictor) -> Predictor:
    """Predict a row as a request would, three times, and note the time that it takes."""
    if not predictor.schema.samples:
        raise UserError("its schema has no samples")
    body = msgspec.json.encode(predictor.schema.samples[0].row)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        predictor.predict(predictor.parser.parse_json(body))
        seconds.append(time.perf_counter() - start)
    return replace(predictor, row_seconds=min(seconds))
