"""A version from its files, held against itself before it may answer."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from wineexp.core.errors import UserError
from wineexp.models import manifest
from wineexp.models.compiled import form
from wineexp.models.golden_rows import check_gap, golden_rows_gap, read_golden_rows
from wineexp.serving.model.cache import Kept
from wineexp.serving.model.files import stored_model, stored_schema
from wineexp.serving.model.predictor import Lineage, Model, Served
from wineexp.serving.model.rows import Reader


def load(folder: Path, kept: Kept, alias: str, *, most: int) -> Served:
    """A version from its files, after every check that needs no registry: schema, golden rows, a warm answer.

    Parameters
    ----------
    folder : Path
        Held against the version's seal already.
    kept : Kept
    alias : str
    most : int
        Rows that one request may hold.

    Raises
    ------
    UserError
        A check fails.
    """
    described = stored_schema(folder)
    reader = Reader(described, most)
    model, told = _model(folder, kept, reader)
    gap = _golden_rows_gap(folder, model)
    check_gap(gap)
    return _warmed(
        Served(
            **vars(model),
            kept=kept,
            mlflow_version=str(stored_model(folder).get("mlflow_version", "")),
            lineage=Lineage(
                name=kept.name,
                alias=alias,
                version=kept.number,
                run_id=kept.run_id,
                config_sha256=kept.tags.get("config.sha256", ""),
                data_md5=kept.tags.get("data.md5", ""),
            ),
            schema=described,
            form=told,
            reader=reader,
            card=_text(folder / manifest.EXTRA_FOLDER / manifest.CARD_FILE),
            card_page=_text(folder / manifest.EXTRA_FOLDER / manifest.CARD_PAGE_FILE),
            gap=gap,
            row_seconds=0.0,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def _model(folder: Path, kept: Kept, reader: Reader) -> tuple[Model, str]:
    """What answers: the compiled form where there is one, else the pipeline."""
    packed = folder / manifest.EXTRA_FOLDER / form.NAME
    if packed.exists():
        found = form.read(packed.read_bytes())
        # Only models that answer the likeliest class, and rule none out, are compiled.
        model = Model(found.classes, found.ask, lambda shares: shares.argmax(axis=1), lambda _: None)
        told = form.COMPILED
        if found.plan.columns != list(reader.features) or {each.name for each in found.plan.texts} != reader.texts:
            raise UserError("its compiled form asks for other features than its schema names")
    else:
        # All that a lean server goes without.
        from wineexp.serving.model.pipeline import loaded

        model, told = loaded(folder, reader), kept.form
    if [str(label) for label in model.labels] != reader.schema.classes:
        raise UserError(f"its schema names the classes {reader.schema.classes}, the model {model.labels}")
    return model, told


def _golden_rows_gap(folder: Path, model: Model) -> float:
    """The largest difference from the stored probabilities of golden rows; decisions and sets must equal the stored.

    Raises
    ------
    UserError
        The golden rows cannot be read or predicted, or a decision or prediction set differs.
    """
    golden = read_golden_rows(folder)
    gap = golden_rows_gap(model.ask, golden)
    # Both are computed from the stored probabilities: those of another processor may lie beyond a threshold.
    prediction_sets = model.sets(golden.probabilities)
    differing = []
    if model.decide(golden.probabilities).tolist() != golden.decisions:
        differing.append("decisions")
    if (None if prediction_sets is None else prediction_sets.tolist()) != golden.prediction_sets:
        differing.append("prediction sets")
    if differing:
        raise UserError(f"its {' and '.join(differing)} on its golden rows are not those that were stored with it")
    return gap


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _warmed(served: Served) -> Served:
    """Ask a row as a client would, and see what it takes."""
    if not served.schema.samples:
        raise UserError("its schema has no samples")
    body = msgspec.json.encode(served.schema.samples[0].row)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        served.answers(served.reader.json(body))
        seconds.append(time.perf_counter() - began)
    return replace(served, row_seconds=min(seconds))
