"""dvc.yaml, driven by real `dvc` commands in a clone without a remote."""

import configparser
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import hydra
import pytest
import yaml

from tests import preloaded_python
from tests.conftest import INHERITED, new_database, run_preloaded
from tests.docs.shell import check_page
from wineexp.core.paths import CONF, ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Hydra loads the sweeper's plugin, which imports these, at every start; they change nothing about a stage.
PLUGIN_MODULES = {"wineexp/sweep/__init__.py", "wineexp/sweep/settings.py"}
COMPOSE = "python -m wineexp.train --config-name pipeline --cfg job --resolve"
# Runs a module as `python -m` does, and then writes down which of the project's modules have been imported.
RUN_AND_LIST_IMPORTS = """
import json, pathlib, runpy, sys
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
modules = [name for name in sys.modules if name.partition(".")[0] == "wineexp"]
pathlib.Path("imports.json").write_text(json.dumps(modules))
"""


class Clone:
    """The working tree as a commit of its own, with nothing beside it but the embedded data."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "wineexp"
        # Settings and caches of the machine's own DVC, MLflow and git are out of reach.
        variables = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        self.settings = {name: str(folder / name) for name in variables}
        dropped = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR")
        self.environment = {name: value for name, value in os.environ.items() if name not in dropped}
        self.environment |= self.settings
        self.environment |= {
            f"GIT_{role}_{what}": "tester" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        self.environment["PATH"] = (
            f"{preloaded_python.folder()}:{Path(preloaded_python.PYTHON).parent}:{os.environ['PATH']}"
        )
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

    def changed_dependencies(self) -> dict[str, list[str]]:
        """By stage, what is not as in dvc.lock: dependencies and parameters that changed, or the stage's command."""
        changed: dict[str, list[str]] = {}
        for stage, changes in json.loads(self.run("dvc status --json")).items():
            for change in changes:
                if isinstance(change, str):
                    changed.setdefault(stage, []).append(change)
                else:
                    dependencies = change.get("changed deps", {}).items()
                    changed.setdefault(stage, []).extend(name for name, how in dependencies if how != "deleted")
        return {stage: names for stage, names in changed.items() if stage in STAGES and names}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the whole pipeline ran once, and its lock was committed."""
    clone = Clone(tmp_path_factory.mktemp("reproduced"))
    (clone.root / "dvc.lock").unlink()
    assert stages_run(clone.run("dvc repro")) == list(STAGES)
    clone.commit()
    return clone


@contextmanager
def restored(path: Path) -> Iterator[str]:
    """The text of a file that the with block may change; it is written back afterwards."""
    before = path.read_text()
    try:
        yield before
    finally:
        path.write_text(before)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


def test_params_are_what_the_config_composes_to(clone: Clone) -> None:
    committed = (ROOT / "params.yaml").read_text()
    composed = run_preloaded(shlex.split(COMPOSE)[1:], clone.root, INHERITED | {"PYTHONPATH": str(clone.root)}, 60)
    assert composed.stdout == committed, f"params.yaml is not current; write it: {COMPOSE} > params.yaml"


@pytest.mark.journey
def test_dvc_composes_params_as_the_program_does(clone: Clone) -> None:
    with restored(clone.root / "params.yaml"):
        (clone.root / "params.yaml").write_text("chosen: {}\n")
        clone.run("dvc exp run --queue")
    (queued,) = clone.run("git for-each-ref --format='%(refname)' refs/exps").split()
    assert clone.run(f"git show {queued}:params.yaml") == (ROOT / "params.yaml").read_text()


def test_a_choice_from_a_folder_of_ones_own_is_composed_for_the_pipeline(tmp_path: Path) -> None:
    for group, name, text in (
        ("data", "mine", "defaults: [override /target@_global_.target: below/own]\npin_file: a.dvc\n"),
        ("target", "below/own", "column: c\n"),
    ):
        path = tmp_path / group / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    # As DVC composes it.
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        params = hydra.compose("pipeline", [f"hydra.searchpath=[{tmp_path.as_uri()}]", "data=mine"])
    assert params.chosen == {
        "data": "mine",
        "target": "below/own",
        "feature": "scaled",
        "split": "grouped",
        "model": "xgb",
    }
    assert (params.data.pin_file, params.target.column) == ("a.dvc", "c")


def test_the_lock_is_of_this_code_and_of_these_parameters(clone: Clone) -> None:
    changed = clone.changed_dependencies()
    assert changed == {}, "dvc.lock is not current; bring it up to date: dvc repro && git add dvc.lock"


def test_dvc_reports_no_usage() -> None:
    settings = configparser.ConfigParser()
    settings.read_string((ROOT / ".dvc/config").read_text())
    assert settings["core"]["analytics"] == "false"


@pytest.mark.journey
def test_a_stage_depends_on_the_packages_that_it_imports(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    new_database(clone.root)
    (clone.root / "imports.py").write_text(RUN_AND_LIST_IMPORTS)
    variables = {name: value for name, value in INHERITED.items() if name != "MLFLOW_TRACKING_URI"}
    for name, stage in STAGES.items():
        module, *arguments = shlex.split(stage["cmd"])[2:]
        done = run_preloaded(
            ["imports.py", module, *arguments], clone.root, variables | {"PYTHONPATH": str(clone.root)}, timeout=200
        )
        assert done.returncode == 0, done.stderr
        imported = {f"wineexp/{name}.py"}
        for dotted in json.loads((clone.root / "imports.json").read_text()):
            path = Path(*dotted.split("."))
            imported.add(str(path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")))
        imported -= PLUGIN_MODULES
        dependencies = {path for path in stage["deps"] if path.startswith("wineexp/")}
        missing = {path for path in imported if not any(is_within(path, named) for named in dependencies)}
        # A package's own file that holds a docstring alone changes nothing.
        assert {path for path in missing if (ROOT / path).read_text().count("\n") > 1} == set(), name
        unused = {named for named in dependencies if not any(is_within(path, named) for path in imported)}
        assert unused == set(), name


def is_within(path: str, named: str) -> bool:
    """Whether a file is the named one, or in the named folder."""
    return path == named or path.startswith(f"{named}/")


def test_every_stage_depends_on_its_config() -> None:
    assert all("conf/stage.yaml" in stage["deps"] for stage in STAGES.values())


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_twice_is_once_and_by_force_the_same_to_the_byte(reproduced: Clone) -> None:
    # The data of the pipeline are in DVC's cache; those that no stage has fetched are not.
    missing = {"data/raw/winequality-red.csv.dvc", "data/raw/winequality-white.csv.dvc"}
    assert set(json.loads(reproduced.run("dvc status --json"))) <= missing
    output = reproduced.run("dvc repro")
    assert stages_run(output) == []
    assert output.endswith("Data and pipelines are up to date.\n")
    assert stages_run(reproduced.run("dvc repro --force --no-run-cache")) == list(STAGES)
    assert reproduced.run("git status --porcelain") == ""


@pytest.mark.journey
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("path", "old", "new", "stages"),
    [
        ("wineexp/reports/style.py", "\n", "\n# A line.\n", {"explore"}),
        ("wineexp/prepare.py", "\n", "\n# A line.\n", {"prepare"}),
        ("wineexp/workflows/record.py", "\n", "\n# A line.\n", {"train"}),
        ("wineexp/evaluate.py", "\n", "\n# A line.\n", {"evaluate"}),
        ("wineexp/data/tables.py", "\n", "\n# A line.\n", set(STAGES)),
        ("wineexp/serve.py", "\n", "\n# A line.\n", set()),
        ("params.yaml", "n_estimators: 200", "n_estimators: 20", {"train"}),
        ("params.yaml", "strategy: median", "strategy: mean", {"prepare", "train"}),
        ("params.yaml", "size: 0.2", "size: 0.25", {"explore", "prepare", "train"}),
        ("params.yaml", "metric: accuracy", "metric: f1_macro", {"explore", "prepare", "train", "evaluate"}),
        ("params.yaml", "uri: sqlite:///mlflow.db", "uri: null", set()),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isprintable() else "",
)
def test_a_change_reruns_what_depends_on_it(reproduced: Clone, path: str, old: str, new: str, stages: set[str]) -> None:
    with restored(reproduced.root / path) as before:
        assert old in before
        (reproduced.root / path).write_text(before.replace(old, new, 1))
        assert set(reproduced.changed_dependencies()) == stages


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_a_changed_byte_of_data_is_refused_until_it_is_pinned_and_then_reruns_everything(reproduced: Clone) -> None:
    data, pinned = reproduced.root / "data/raw/wine.data", reproduced.root / "data/raw/wine.data.dvc"
    with restored(pinned), restored(data) as before:
        data.write_text(before.replace("14.23", "14.24", 1))
        done = reproduced.call("dvc repro")
        assert done.returncode != 0
        assert "error: data/raw/wine.data has 10782 bytes with md5" in done.stdout
        assert stages_run(done.stdout) == ["fetch"]
        reproduced.run("dvc add -q data/raw/wine.data")
        assert stages_run(reproduced.run("dvc repro fetch")) == ["fetch"]
        assert set(reproduced.changed_dependencies()) == {"explore", "prepare", "train"}
    # The rest is as it was.
    assert stages_run(reproduced.run("dvc repro")) == ["fetch"]
    assert reproduced.run("git status --porcelain") == ""


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_an_experiment_runs_what_its_override_changes_and_is_compared(reproduced: Clone) -> None:
    output = reproduced.run("dvc exp run -S model=logreg -S model.C=0.5")
    assert stages_run(output) == ["train", "evaluate"]
    params = yaml.safe_load((reproduced.root / "params.yaml").read_text())
    assert params["chosen"]["model"] == "logreg"
    assert params["model"]["_target_"] == "sklearn.linear_model.LogisticRegression"
    assert params["model"]["C"] == 0.5
    changes = json.loads(reproduced.run("dvc metrics diff --json"))["outputs/pipeline/evaluate/metrics.json"]
    assert changes["cv.log_loss"]["new"] != changes["cv.log_loss"]["old"]
    plots = json.loads(reproduced.run("dvc plots show --json"))["data"]
    assert set(plots) >= {"Confusion, out of fold", "Calibration, out of fold", "Scores by fold"}
    # What DVC commits for an experiment leaves the pins as they are.
    changed = ["dvc.lock", "outputs/pipeline/evaluate/metrics.json", "params.yaml"]
    assert reproduced.run("git status --porcelain").splitlines() == [f" M {name}" for name in changed]
    reproduced.run("git checkout -q .")


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_work_and_its_queue_is_recorded_in_the_store_of_the_clone(reproduced: Clone) -> None:
    def recorded() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(reproduced.root / "mlflow.db")) as connection:
            return connection.execute("SELECT name, artifact_uri FROM runs WHERE name != 'explore'").fetchall()

    before = recorded()
    check_page(ROOT / "docs/pipeline.md", reproduced.root, **reproduced.settings)
    shown = json.loads(reproduced.run("dvc exp show --json"))
    models = {
        experiment["revs"][0]["data"]["params"]["params.yaml"]["data"]["chosen"]["model"]
        for baseline in shown
        for experiment in baseline.get("experiments") or []
    }
    assert models >= {"majority", "logreg"}
    added = [row for row in recorded() if row not in before]
    assert {name for name, _ in added} == {f"{model} scaled grouped" for model in ("forest", "majority", "logreg")}
    assert all(Path(uri.removeprefix("file://")).joinpath("predictions.parquet").is_file() for _, uri in added)
    reproduced.run("git checkout -q .")
