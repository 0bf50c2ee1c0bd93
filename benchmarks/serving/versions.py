"""Registered versions to serve, made by this project's own commands, and the same model for those that read a file."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
from mlflow import MlflowClient

from wineexp.models import manifest, persistence

ROOT = Path(__file__).resolve().parents[2]

# By registered name, a version for each line: 300 rounds of 6 classes are 1,800 trees. Few folds, as none is looked at.
BOOSTED = ["data=red", "feature=poly", "model=xgb", "model.n_estimators=300", "model.max_depth=6"]
WANTED = {
    "wine": [BOOSTED, [*BOOSTED, "seed=1"]],
    "forest": [["data=red", "feature=raw", "model=forest", "model.n_estimators=500"]],
}
# Whatever it scores, it is to be registered.
ANY = ["gate.require=not_worse", "gate.margin=10", "gate.calibration_margin=10", "gate.floors.matthews_corrcoef=null"]
ROOMY = ["gate.row_milliseconds=1000", "allow=[dirty]", "split.n_splits=2", "split.n_repeats=1"]


@dataclass(frozen=True)
class Store:
    """A folder with a tracking store whose models `wine` and `forest` have versions behind `champion`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        more = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        return {**os.environ, **more}

    @property
    def client(self) -> MlflowClient:
        uri = self.environment["MLFLOW_TRACKING_URI"]
        return MlflowClient(uri, uri)

    def files(self, name: str) -> Path:
        """The folder that MLflow keeps the first version of a model in."""
        source = str(self.client.get_model_version(name, "1").source)
        found = self.client.get_logged_model(source.removeprefix("models:/"))
        return Path(str(found.artifact_location).removeprefix("file://"))

    @property
    def peer(self) -> Path:
        """The folder with `wine` for those that do not speak MLflow."""
        return self.folder / "peer"

    def row(self) -> dict[str, float]:
        return json.loads((self.peer / "row.json").read_text())


def make(folder: Path) -> Store:
    """The store in a folder, made if it is not there."""
    store = Store(folder)
    if not (folder / "done").exists():
        _make(store)
    # The version that the peers have as a file.
    store.client.set_registered_model_alias("wine", "champion", "1")
    return store


def _make(store: Store) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    for name, versions in WANTED.items():
        for overrides in versions:
            print(f"making a version of {name}: {' '.join(overrides)}", file=sys.stderr)
            told = _command(store, "train", "split.n_splits=2", *overrides)
            run = re.findall(r"Recorded as run (\w+)", told)[-1]
            _command(store, "promote", f"run={run}", f"registry.name={name}", *ANY, *ROOMY)
    _plain_files(store)
    (store.folder / "done").touch()


def _plain_files(store: Store) -> None:
    files = store.files("wine")
    schema: dict[str, Any] = json.loads((files / manifest.EXTRA_FOLDER / "schema.json").read_text())
    store.peer.mkdir(exist_ok=True)
    joblib.dump(persistence.load(files), store.peer / "model.joblib")
    told = {
        "names": [feature["name"] for feature in schema["features"]],
        "classes": schema["classes"],
        "row": schema["samples"][0]["row"],
    }
    for name, value in told.items():
        (store.peer / f"{name}.json").write_text(json.dumps(value))


def _command(store: Store, program: str, *overrides: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"wineexp.{program}", *overrides],
        cwd=store.folder,
        env=store.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{program} {' '.join(overrides)} failed:\n{done.stderr[-3000:]}")
    return done.stdout
