"""A version from its files, held against itself before it may answer."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from wineexp.core.errors import UserError
from wineexp.models import manifest
from wineexp.models.compiled import form
from wineexp.serving.model.cache import Kept
from wineexp.serving.model.files import bound, stored_model, stored_schema
from wineexp.serving.model.predictor import Lineage, Model, Served
from wineexp.serving.model.rows import Reader

# A model card, where the version has one.
CARD, CARD_PAGE = "card.md", "card.html"


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
    gap = _golden_gap(folder, model)
    bound(gap)
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
            card=_text(folder / manifest.EXTRA / CARD),
            card_page=_text(folder / manifest.EXTRA / CARD_PAGE),
            gap=gap,
            row_seconds=0.0,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def _model(folder: Path, kept: Kept, reader: Reader) -> tuple[Model, str]:
    """What answers: the compiled form where there is one, else the pipeline."""
    packed = folder / manifest.EXTRA / form.NAME
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


def _golden_gap(folder: Path, model: Model) -> float:
    """How far answers are from those that were stored with the version: at most; what they decide is the same."""
    try:
        golden = json.loads((folder / manifest.EXTRA / manifest.GOLDEN).read_text(encoding="utf-8"))
        stored = np.asarray(golden["probabilities"])
        gap = float(np.abs(model.ask(golden["rows"]["data"]) - stored).max())
        # Of the stored probabilities, as those of another processor may be on the other side of a bound.
        found = {"decisions": model.decide(stored), "sets": model.sets(stored)}
        told = {name: None if each is None else each.tolist() for name, each in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"the model cannot answer its golden rows ({type(error).__name__}: {error})") from error
    # Versions from before these were stored have none.
    if changed := [name for name, each in told.items() if golden.get(name, each) != each]:
        raise UserError(f"its {' and '.join(changed)} on its golden rows are not those that were stored with it")
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
