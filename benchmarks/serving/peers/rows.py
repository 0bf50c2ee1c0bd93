"""The model as plain files, and the response to a request of one row, for all servers but wineexp and MLflow."""

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["PEER"])
NAMES: list[str] = json.loads((FOLDER / "names.json").read_text())
CLASSES: list[str] = json.loads((FOLDER / "classes.json").read_text())


def model() -> Any:
    """The fitted pipeline."""
    import joblib

    return joblib.load(FOLDER / "model.joblib")


def respond(probabilities: list[float]) -> dict[str, Any]:
    """The likeliest class, and the probability of each class."""
    best = max(range(len(CLASSES)), key=probabilities.__getitem__)
    return {"class": CLASSES[best], "probabilities": dict(zip(CLASSES, probabilities, strict=True))}
