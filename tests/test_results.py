"""`python -m wineexp.compare results=true`: a page of the recorded runs of named experiments, and of nothing else."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests.conftest import run
from wineexp import results

# With what the fixture trains, a busy machine needs longer than the usual limit.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two models and a leaky split of one experiment, one run of them twice, and a run that is of none."""
    folder = tmp_path_factory.mktemp("results")
    few = ["experiment=cultivar", "split.n_splits=2"]
    for arguments in (
        ["-m", "hydra/sweeper=basic", *few, "split.n_repeats=2", "model=logreg,majority"],
        ["-m", "hydra/sweeper=basic", "experiment=cultivar", "model=logreg", "split=stratified", "seed=0,0"],
        ["model=majority"],
    ):
        done = run(folder, "train", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run(folder, "compare", "results=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Read the page: docs/results.md\n"
    return folder, (folder / "docs/results.md").read_text()


def recorded(folder: Path) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def test_every_named_run_is_in_it_once_for_each_config(page: tuple[Path, str]) -> None:
    folder, text = page
    shown = re.findall(r"`([0-9a-f]{8})` \|$", text, re.MULTILINE)
    runs = recorded(folder)
    assert len(runs) == 5
    assert len(shown) == len(set(shown)) == 3
    assert "from the record of 3 runs" in text
    named = {each.info.run_id[:8] for each in runs if each.data.tags.get("experiment") == "cultivar"}
    assert set(shown) <= named
    assert "### cultivar · cultivar · split repeated" in text
    assert "### cultivar · cultivar · split stratified" in text


def test_figures_are_the_records(page: tuple[Path, str]) -> None:
    folder, text = page
    for each in recorded(folder):
        line = next((line for line in text.splitlines() if f"`{each.info.run_id[:8]}`" in line), None)
        if line is not None:
            mean = f"{each.data.metrics['cv/accuracy']:.4f}"
            low, high = map(float, re.search(rf"\| {mean} \(([\d.]+) to ([\d.]+)\)", line).groups())
            assert low < float(mean) < high
            assert line.startswith(f"| cultivar | {each.data.params['model']} |")


def test_pictures_are_where_the_page_says(page: tuple[Path, str]) -> None:
    folder, text = page
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert (folder / "docs" / picture).read_text().startswith("<svg")


def test_the_spread_is_that_of_whole_runs() -> None:
    scores = np.array([0.2, 0.4, 0.5, 0.7])
    np.testing.assert_allclose(results._runs(scores, 2), [0.3, 0.6])


def test_nothing_to_tell_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, "compare", "results=true")
    assert done.returncode == 1
    assert "holds no finished run of a named experiment" in done.stderr
    assert not (tmp_path / "docs").exists()
    done = run(tmp_path, "compare", "results=true", "runs=champion")
    assert done.returncode == 1
    assert "give it without runs= and lineage=" in done.stderr
