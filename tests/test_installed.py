"""wineexp installed from its wheel, used in a folder of one's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wineexp.core.paths import ROOT

DATA = """\
# The cultivars under a name of one's own.
defaults:
  - cultivar
  - override /target@_global_.target: cultivar
noun: [bottle, bottles]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content alone, to be put on PYTHONPATH."""
    built, site = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", built, ROOT], check=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-compile", "--target", site, wheel], check=True)
    return site


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's own folder, with a data set and a model of its own."""
    for name, text in {
        "data/mine.yaml": DATA,
        "model/nearest.yaml": "_target_: sklearn.neighbors.KNeighborsClassifier\nn_neighbors: 5\n",
        "search/nearest.yaml": "model.n_neighbors: range(1, 9)\n",
    }.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def call(project: Path, installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment | {"PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.journey
def test_a_data_set_and_a_model_of_ones_own_are_trained_on(installed: Path, project: Path) -> None:
    own = ["data=mine", "model=nearest"]
    done = call(project, installed, "-m", "wineexp.train", *own)
    assert done.returncode == 0, done.stderr
    assert "mine · cultivar · scaled · grouped · nearest" in done.stdout
    assert f"in sqlite:///{project}/mlflow.db" in done.stdout
    assert (project / "data/raw/wine.data").is_file()
    script = installed / "bin" / "wineexp"
    listed = call(project, installed, str(script), "train", "--help")
    assert "    nearest\n" in listed.stdout
    swept = call(project, installed, str(script), "train", "-m", "hydra.sweeper.n_trials=2", "tracking=off", *own)
    assert swept.returncode == 0, swept.stderr
    assert "finished: 2/2" in swept.stdout


@pytest.mark.journey
def test_a_table_of_ones_own_is_added_and_trained_on(installed: Path, project: Path) -> None:
    rows = "".join(f"{n % 7},{'ab'[n % 7 > 3]}\n" for n in range(60))
    (project / "own.csv").write_text(f"day,kind\n{rows}")
    added = call(project, installed, "-m", "wineexp.add", "file=own.csv", "target=kind")
    assert added.returncode == 0, added.stderr
    assert (project / "own.csv.dvc").is_file()
    command = added.stdout.strip().rpartition("Train on it: python ")[2].split()
    assert command == ["-m", "wineexp.train", "data=own"]
    trained = call(project, installed, *command, "split=stratified", "holdout.size=0", "model=logreg", "tracking=off")
    assert trained.returncode == 0, trained.stderr
    assert "own · kind · scaled · stratified · logreg" in trained.stdout


def test_the_command_lists_the_programs_and_corrects_a_name(installed: Path, project: Path) -> None:
    script = str(installed / "bin" / "wineexp")
    listed = call(project, installed, script)
    assert listed.returncode == 0
    assert "  train      Train, score and record one model\n" in listed.stdout
    wrong = call(project, installed, script, "trian")
    assert (wrong.returncode, wrong.stderr.partition("?")[0]) == (
        1,
        "error: trian: no such program; did you mean train",
    )


def test_a_wheel_holds_no_data_and_nothing_that_was_built(installed: Path) -> None:
    assert {path.name for path in (installed / "wineexp/pins").iterdir()} == {
        path.name for path in (ROOT / "data/raw").glob("*.dvc")
    }
    assert not (installed / "wineexp/models/compiled/build").exists()
    assert (installed / "wineexp/models/compiled/kernel.c").is_file()
