"""Fixtures: the commands as a user gives them, each in a folder and a tracking store of its own."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

import wineexp.train  # noqa: F401  registers the frame of conf/train.yaml
from wineexp import pin
from wineexp.errors import UserError

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def wine_quality() -> None:
    """Skip where the wine quality data cannot be had: no DVC remote is configured, and UCI is out of reach."""
    for colour in ("red", "white"):
        try:
            pin.load(pin.read(f"data/raw/winequality-{colour}.csv.dvc"))
        except UserError as error:
            pytest.skip(f"no wine quality data: {str(error).splitlines()[0]}")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a command that keeps its hands off the project's own folders."""
    inherited = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return inherited | {
        "PYTHONPATH": str(pin.ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "COLUMNS": "200",
        **more,
    }


def run(folder: Path, *arguments: str, timeout: float = 280, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m wineexp.<arguments>` in a folder and wait for it."""
    program, *overrides = arguments
    return subprocess.run(
        [sys.executable, "-m", f"wineexp.{program}", *overrides],
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`command("train", "model=xgb")` runs a program in tmp_path, recording in `tmp_path/mlflow.db`."""

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run(tmp_path, *arguments, **more)

    return call


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """The config of `python -m wineexp.train <overrides>`, composed once: to be read only."""
    with hydra.initialize_config_dir(str(pin.ROOT / "conf"), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def choices(group: str) -> list[str]:
    """The files of a config group, so that a new one is tested without anyone remembering."""
    found = sorted(path.stem for path in (pin.ROOT / "conf" / group).glob("*.yaml"))
    assert found, f"conf/{group} holds no file"
    return found
