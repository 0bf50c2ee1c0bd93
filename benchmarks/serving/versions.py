"""Registered versions to serve, made by commands of wineexp, and the same model as plain files for other servers."""

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

# 300 rounds for 6 classes are 1,800 trees.
BOOSTED = ["data=red", "feature=poly", "model=xgb", "model.n_estimators=300", "model.max_depth=6"]
# By registered name, the overrides of each version.
VERSIONS = {
    "wine": [BOOSTED, [*BOOSTED, "seed=1"]],
    "forest": [["data=red", "feature=raw", "model=forest", "model.n_estimators=500"]],
    "selection": [["data=red", "feature=scaled", "model=selection"]],
}
# With these settings the gate of promotion accepts any score, and any prediction time.
ACCEPT_ANY_SCORE = [
    "gate.require=not_worse",
    "gate.margin=10",
    "gate.calibration_margin=10",
    "gate.floors.matthews_corrcoef=null",
]
ACCEPT_ANY_TIME = [
    "gate.row_milliseconds=1000",
    "allow=[dirty]",
    "split=repeated",
    "split.n_splits=2",
    "split.n_repeats=1",
]


@dataclass(frozen=True)
class Store:
    """A folder with a tracking store whose models have versions behind `champion`: some or all of `VERSIONS`."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        variables = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db"}
        return {**os.environ, **variables}

    @property
    def client(self) -> MlflowClient:
        uri = self.environment["MLFLOW_TRACKING_URI"]
        return MlflowClient(uri, uri)

    def has(self, name: str) -> bool:
        """Whether the versions of a model are complete."""
        return (self.folder / f"{name}.done").exists()

    def files(self, name: str) -> Path:
        """The folder in which MLflow stores the first version of a model."""
        source = str(self.client.get_model_version(name, "1").source)
        model = self.client.get_logged_model(source.removeprefix("models:/"))
        return Path(str(model.artifact_location).removeprefix("file://"))

    @property
    def peer(self) -> Path:
        """The folder with the model `wine` as plain files, for servers that do not read MLflow's format."""
        return self.folder / "peer"

    def row(self) -> dict[str, float]:
        return json.loads((self.peer / "row.json").read_text())


def make(folder: Path, names: set[str]) -> Store:
    """The store in a folder, with the model `wine` and those of these names, which are made if they are missing."""
    store = Store(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in [name for name in VERSIONS if name in {"wine", *names} and not store.has(name)]:
        _make(store, name)
    # The other servers have the first version as files.
    store.client.set_registered_model_alias("wine", "champion", "1")
    return store


def _make(store: Store, name: str) -> None:
    for overrides in VERSIONS[name]:
        print(f"making a version of {name}: {' '.join(overrides)}", file=sys.stderr)
        # Two folds suffice, since the scores are not used.
        output = _command(store, "train", "split.n_splits=2", *overrides)
        run = re.findall(r"Recorded as run (\w+)", output)[-1]
        _command(store, "promote", f"run={run}", f"registry.name={name}", *ACCEPT_ANY_SCORE, *ACCEPT_ANY_TIME)
    if name == "wine":
        _plain_files(store)
    (store.folder / f"{name}.done").touch()


def _plain_files(store: Store) -> None:
    files = store.files("wine")
    schema: dict[str, Any] = json.loads((files / manifest.EXTRA_FOLDER / "schema.json").read_text())
    store.peer.mkdir(exist_ok=True)
    joblib.dump(persistence.load(files), store.peer / "model.joblib")
    contents = {
        "names": [feature["name"] for feature in schema["features"]],
        "classes": schema["classes"],
        "row": schema["samples"][0]["row"],
    }
    for name, value in contents.items():
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
