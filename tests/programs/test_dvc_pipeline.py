"""dvc.yaml, driven by real `dvc` commands in a clone without a remote."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from wineexp.core.paths import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# By the plugin that Hydra loads at every start.
ALWAYS_IMPORTED = {"wineexp/sweep/__init__.py", "wineexp/sweep/settings.py"}
REWRITE = "python -m wineexp.train --config-name pipeline --cfg job --resolve"


class Clone:
    """The working tree as a commit of its own, with nothing beside it but the embedded data."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "wineexp"
        # Nothing of the machine's own DVC, MLflow and git.
        apart = {"DVC_GLOBAL_CONFIG_DIR": "global", "DVC_SYSTEM_CONFIG_DIR": "system", "DVC_SITE_CACHE_DIR": "site"}
        dropped = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR")
        self.environment = {name: value for name, value in os.environ.items() if name not in dropped}
        self.environment |= {name: str(folder / value) for name, value in apart.items()}
        self.environment |= {
            f"GIT_{role}_{what}": "tester" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        listed = subprocess.check_output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
        )
        for name in listed.split("\0"):
            if name and (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.root / name)
        self.run("git init -q -b main")
        self.commit()

    def run(self, line: str, **more: str) -> str:
        """The output, both streams, of a command that must succeed."""
        done = self.call(line, **more)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def call(self, line: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            shlex.split(line),
            cwd=self.root,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def commit(self) -> None:
        self.run("git add .")
        self.run("git commit -q --allow-empty -m 'as it is'")

    def status(self, kind: str) -> dict[str, list[str]]:
        """By stage, what of its `kind`, deps or outs, is not as in dvc.lock; of stages, its command too."""
        found: dict[str, list[str]] = {}
        for stage, changes in json.loads(self.run("dvc status --json")).items():
            for change in changes:
                if isinstance(change, str):
                    found.setdefault(stage, []).append(change)
                else:
                    found.setdefault(stage, []).extend(
                        name for name, how in change.get(f"changed {kind}", {}).items() if how != "deleted"
                    )
        return {stage: names for stage, names in found.items() if stage in STAGES and names}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, list[str]]:
    """A clone in which the whole pipeline ran once, and its lock was committed; and what each stage said."""
    made = Clone(tmp_path_factory.mktemp("ran"))
    (made.root / "dvc.lock").unlink()
    # Python tells of every module that it imports.
    told = made.run("dvc repro", PYTHONVERBOSE="1")
    assert stages_run(told) == list(STAGES)
    made.commit()
    return made, re.split(r"^Running stage '\w+':", told, flags=re.MULTILINE)[1:]


@pytest.fixture(scope="module")
def ran(first: tuple[Clone, list[str]]) -> Clone:
    return first[0]


@contextmanager
def kept(path: Path) -> Iterator[str]:
    """The text of a file that a test changes, and that is as it was afterwards."""
    before = path.read_text()
    try:
        yield before
    finally:
        path.write_text(before)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def test_params_are_what_the_config_composes_to(clone: Clone) -> None:
    committed = (ROOT / "params.yaml").read_text()
    assert clone.run(REWRITE) == committed, f"params.yaml is not current; write it: {REWRITE} > params.yaml"
    composing = (
        "from dvc.repo import Repo; repo = Repo(); repo.experiments.celery_queue._update_params({'params.yaml': []})"
    )
    clone.run(f'python -c "{composing}"')
    assert (clone.root / "params.yaml").read_text() == committed, "DVC composes it otherwise than the program"


def test_the_lock_is_of_this_code_and_of_these_parameters(clone: Clone) -> None:
    assert clone.status("deps") == {}, "dvc.lock is not current; bring it up to date: dvc repro && git add dvc.lock"


def test_nothing_is_reported_to_anyone(clone: Clone) -> None:
    assert clone.run("dvc config core.analytics").strip() == "false"


def test_a_stage_depends_on_the_packages_that_it_imports(first: tuple[Clone, list[str]]) -> None:
    for (name, stage), output in zip(STAGES.items(), first[1], strict=True):
        # The program itself runs as __main__.
        imported = {f"wineexp/{name}.py"}
        for dotted in re.findall(r"^import '(wineexp[\w.]*)'", output, re.MULTILINE):
            path = Path(*dotted.split("."))
            imported.add(str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")))
        imported = {path for path in imported if (ROOT / path).is_file()} - ALWAYS_IMPORTED
        named = {path for path in stage["deps"] if path.startswith("wineexp/")}
        unnamed = {path for path in imported if not any(path == dep or path.startswith(f"{dep}/") for dep in named)}
        assert {path for path in unnamed if (ROOT / path).read_text().count("\n") > 1} == set(), name
        idle = {dep for dep in named if not any(path == dep or path.startswith(f"{dep}/") for path in imported)}
        assert idle == set(), name


def test_every_stage_watches_its_config() -> None:
    assert all("conf/stage.yaml" in stage["deps"] for stage in STAGES.values())


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_twice_is_once_and_by_force_the_same_to_the_byte(ran: Clone) -> None:
    told = ran.run("dvc repro")
    assert stages_run(told) == []
    assert told.endswith("Data and pipelines are up to date.\n")
    assert stages_run(ran.run("dvc repro --force --no-run-cache")) == list(STAGES)
    assert ran.run("git status --porcelain") == ""


@pytest.mark.journey
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("path", "old", "new", "stages"),
    [
        ("wineexp/reports/style.py", "\n", "\n# A line.\n", {"explore"}),
        ("wineexp/data/tables.py", "\n", "\n# A line.\n", {"prepare"}),
        ("wineexp/workflows/record.py", "\n", "\n# A line.\n", {"train"}),
        ("wineexp/workflows/assessment.py", "\n", "\n# A line.\n", {"evaluate"}),
        ("wineexp/serve.py", "\n", "\n# A line.\n", set()),
        ("params.yaml", "n_estimators: 200", "n_estimators: 20", {"train"}),
        ("params.yaml", "strategy: median", "strategy: mean", {"prepare", "train"}),
        ("params.yaml", "size: 0.2", "size: 0.25", {"explore", "prepare", "train"}),
        ("params.yaml", "metric: accuracy", "metric: f1_macro", {"explore", "prepare", "train", "evaluate"}),
        ("params.yaml", "uri: sqlite:///mlflow.db", "uri: null", set()),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() else "",
)
def test_a_change_reruns_what_depends_on_it(ran: Clone, path: str, old: str, new: str, stages: set[str]) -> None:
    with kept(ran.root / path) as before:
        assert old in before
        (ran.root / path).write_text(before.replace(old, new, 1))
        assert set(ran.status("deps")) == stages
    assert ran.status("deps") == {}


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_a_changed_byte_of_data_is_refused_until_it_is_pinned_and_then_reruns_everything(ran: Clone) -> None:
    data, pinned = ran.root / "data/raw/wine.data", ran.root / "data/raw/wine.data.dvc"
    with kept(pinned), kept(data) as before:
        data.write_text(before.replace("14.23", "14.24", 1))
        done = ran.call("dvc repro")
        assert done.returncode != 0
        assert "error: data/raw/wine.data has 10782 bytes with md5" in done.stdout
        assert stages_run(done.stdout) == ["fetch"]
        ran.run("dvc add -q data/raw/wine.data")
        # Where the answers come out the same, there is nothing to evaluate.
        assert stages_run(ran.run("dvc repro"))[:4] == list(STAGES)[:4]
    # The rest is in DVC's cache.
    assert stages_run(ran.run("dvc repro")) == ["fetch"]
    assert ran.run("git status --porcelain") == ""


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_an_experiment_runs_what_its_override_changes_and_is_compared(ran: Clone) -> None:
    told = ran.run("dvc exp run -S model=logreg -S model.C=0.5")
    assert stages_run(told) == ["train", "evaluate"]
    params = yaml.safe_load((ran.root / "params.yaml").read_text())
    assert params["chosen"]["model"] == "logreg"
    assert params["model"]["_target_"] == "sklearn.linear_model.LogisticRegression"
    assert params["model"]["C"] == 0.5
    changes = json.loads(ran.run("dvc metrics diff --json"))["outputs/pipeline/evaluate/metrics.json"]
    assert changes["cv.log_loss"]["new"] != changes["cv.log_loss"]["old"]
    plots = json.loads(ran.run("dvc plots show --json"))["data"]
    assert set(plots) >= {"Confusion, out of fold", "Calibration, out of fold", "Scores by fold"}
    # What DVC commits for an experiment leaves the pins as they are.
    assert ran.run("git status --porcelain").splitlines() == [" M dvc.lock", " M params.yaml"]
    ran.run("git checkout -q .")


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_a_queue_of_models_is_run_and_recorded_where_it_was_asked_for(ran: Clone) -> None:
    def recorded() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(ran.root / "mlflow.db")) as connection:
            return connection.execute("SELECT name, artifact_uri FROM runs WHERE name != 'explore'").fetchall()

    before, tree = recorded(), ran.run("git status --porcelain")
    ran.run("dvc exp run --queue -S model=majority,svm")
    assert ran.run("dvc queue status").count("Queued") == 2
    ran.run("dvc exp run --run-all")
    shown = json.loads(ran.run("dvc exp show --json"))
    models = {
        experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]["chosen"]["model"]
        for baseline in shown
        for experiment in baseline.get("experiments") or []
    }
    assert models >= {"majority", "svm"}
    added = [row for row in recorded() if row not in before]
    assert {name for name, _ in added} == {"majority scaled grouped", "svm scaled grouped"}
    assert all(Path(uri.removeprefix("file://")).joinpath("predictions.parquet").is_file() for _, uri in added)
    assert ran.run("git status --porcelain") == tree
