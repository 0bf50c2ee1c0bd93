"""`python -m wineexp.reproduce`: a run comes out again to the last bit, or is told where it does not."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.conftest import environment, run
from wineexp.core.paths import ROOT
from wineexp.evaluation import metrics

Done = subprocess.CompletedProcess[str]

# Rows of the cultivars, each answered once, in a fold or in the holdout: its class, the answer, three probabilities.
CELLS = 178 * 5
METRICS = len(metrics.metrics_for(3, ordinal=False)) + len(["majority_accuracy"])
# Of each metric five folds, the holdout, mean and deviation; and the fingerprint of the split.
SCORES = METRICS * (5 + 1 + 2) + 1


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class World:
    """A clone of the project as it is, whatever of it is committed, and a store beside it."""

    folder: Path

    @property
    def clone(self) -> Path:
        return self.folder / "project"

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    def run(self, *arguments: str, **more: str) -> Done:
        return run(self.folder, *arguments, **{"PYTHONPATH": str(self.clone), **more})

    def train(self, *arguments: str) -> str:
        """The id of a new run."""
        done = self.run("train", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("Recorded as run ")[1][:32]

    def certificate(self) -> dict:
        """The one that was written last."""
        written = sorted(self.folder.glob("outputs/*/*/certificate.json"))[-1]
        assert written.with_suffix(".txt").exists()
        return json.loads(written.read_text())

    def artifact(self, run_id: str, name: str) -> Path:
        (found,) = self.folder.glob(f"mlruns/*/{run_id}/artifacts/{name}")
        return found

    def state(self) -> list[object]:
        """Everything in the store, and everything that git knows of the clone."""
        with closing(sqlite3.connect(self.database)) as connection:
            rows = list(connection.iterdump())
        files = {path: path.read_bytes() for path in self.folder.glob("mlruns/**/*") if path.is_file()}
        questions = [["status", "--porcelain"], ["stash", "list"], ["worktree", "list"], ["branch", "-av"], ["diff"]]
        return [rows, files, *(git(self.clone, *question) for question in questions)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("world"))
    git(made.folder, "init", "-q", str(made.clone))
    (made.clone / "README.md").write_text("An idea.\n")
    git(made.clone, "add", ".")
    git(made.clone, "commit", "-qm", "before there was anything to reproduce")
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (made.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, made.clone / name)
    git(made.clone, "add", ".")
    git(made.clone, "commit", "-qm", "the project as it is")
    return made


@pytest.fixture(scope="module")
def xgb(world: World) -> str:
    return world.train("model=xgb", "model.n_estimators=5")


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """A file that a test changes, and that is as it was afterwards."""
    before = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def store(world: World, *statements: str) -> Iterator[str]:
    """The URI of a copy of the store, changed behind MLflow's back."""
    copy = world.folder / "copy.db"
    with closing(sqlite3.connect(world.database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for statement in statements:
            assert target.execute(statement).rowcount > 0, statement
        target.commit()
    yield f"sqlite:///{copy}"
    for path in world.folder.glob("copy.db*"):
        path.unlink()


def refused(done: Done, *told: str) -> None:
    """The command failed in one message, which tells this."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    for part in told:
        assert part in done.stderr


def test_a_run_reproduces_with_other_threads(world: World, xgb: str) -> None:
    before = world.state()
    done = world.run("reproduce", f"run={xgb}", "n_jobs=2", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    certificate = world.certificate()
    assert certificate["reproduced"]
    assert certificate["verdict"] in done.stdout
    assert (certificate["compared"], certificate["differing"], certificate["first"]) == (SCORES + CELLS, 0, None)
    assert certificate["notes"] == []
    lines = {line["name"]: line for part in ("facts", "figures") for line in certificate[part]}
    assert all(line["equal"] and line["recorded"] == line["now"] for line in lines.values())
    assert lines["git.commit"]["now"] == git(world.clone, "rev-parse", "HEAD").strip()
    with closing(sqlite3.connect(world.database)) as connection:
        query = "SELECT value FROM metrics WHERE run_uuid = ? AND key = 'fold/log_loss' AND step = 3"
        assert lines["fold 4/5 log_loss"]["now"] == repr(connection.execute(query, [xgb]).fetchone()[0])
    assert world.state() == before


def test_a_forest_that_was_trained_with_two_jobs_reproduces_with_as_many(world: World) -> None:
    forest = world.train("model=forest", "model.n_estimators=5", "n_jobs=2", "data=cultivar")
    done = world.run("reproduce", f"run={forest}", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert f"{SCORES + CELLS} figures compared, all of them equal bit for bit" in done.stdout


def test_scores_that_were_changed_are_found_and_the_first_is_named_with_both_values(world: World, xgb: str) -> None:
    planted = {
        "fold 3/5 accuracy": "key = 'fold/accuracy' AND step = 2",
        "holdout log_loss": "key = 'holdout/log_loss'",
        "cv accuracy": "key = 'cv/accuracy'",
    }
    change = "UPDATE {} SET value = 0.125 WHERE run_uuid = '{}' AND {}"
    changes = [
        change.format(table, xgb, condition)
        for name, condition in planted.items()
        for table in ("metrics", "latest_metrics")
        if (name, table) != ("fold 3/5 accuracy", "latest_metrics")
    ]
    with store(world, *changes) as uri:
        done = world.run("reproduce", f"run={xgb}", MLFLOW_TRACKING_URI=uri)
    certificate = world.certificate()
    differing = {line["name"]: line for line in certificate["figures"] if not line["equal"]}
    assert list(differing) == list(planted)
    assert {line["recorded"] for line in differing.values()} == {"0.125"}
    first, now = "fold 3/5 accuracy", differing["fold 3/5 accuracy"]["now"]
    refused(done, f"3 of {SCORES + CELLS} figures differ; the first is {first}: recorded 0.125, now {now}")
    assert certificate["first"] == {"name": first, "recorded": "0.125", "now": now}
    assert not certificate["reproduced"]


def test_the_first_answer_that_was_changed_is_named_to_its_last_bit(world: World, xgb: str) -> None:
    path = world.artifact(xgb, "predictions.parquet")
    table = pd.read_parquet(path)
    # A bit in the second fold, an answer and a bit in the holdout.
    position = int((table.fold == 1).to_numpy().argmax()) + 3
    true = float(table["probability 2"].astype(float)[position])
    table["probability 2"] = table["probability 2"].astype(float)
    table.loc[position, "probability 2"] = np.nextafter(true, 1)
    table.loc[len(table) - 1, "predicted"] = "none"
    with kept(path):
        table.to_parquet(path, index=False)
        done = world.run("reproduce", f"run={xgb}")
    name = f"fold 2/5 row {table.row[position]} probability 2"
    refused(done, "2 of ", f"the first is {name}: recorded {float(np.nextafter(true, 1))!r}, now {true!r}")


def test_a_row_that_is_gone_and_one_of_no_fold_are_missed(world: World, xgb: str) -> None:
    path = world.artifact(xgb, "predictions.parquet")
    table = pd.read_parquet(path)
    gone = table.row[0]
    table.loc[0, "fold"] = 7
    with kept(path):
        table.to_parquet(path, index=False)
        done = world.run("reproduce", f"run={xgb}")
    refused(done, "10 of ", f"the first is fold 1/5 row {gone} true: recorded nothing, now '")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.yaml", None, "config.yaml that can be verified; it was deleted"),
        ("config.yaml", "model: {_target_: os.system}\n", "is not the config that the run was recorded with"),
        ("predictions.parquet", None, "predictions.parquet is not there any more"),
        ("predictions.parquet", "rows\n", "cannot be read"),
    ],
)
def test_an_artifact_that_was_deleted_or_broken_is_told(
    name: str, content: str | None, told: str, world: World, xgb: str
) -> None:
    path = world.artifact(xgb, name)
    with kept(path):
        path.unlink() if content is None else path.write_text(content)
        refused(world.run("reproduce", f"run={xgb}"), xgb, told)


def test_everything_that_is_not_as_recorded_is_listed(world: World, xgb: str) -> None:
    tags = {
        "data.md5": "'0'",
        "lock.sha256": "'1'",
        "python.version": "'3.10.1'",
        "libraries": "json_set(value, '$.xgboost', '1.0.0')",
        "machine.processor": "'an abacus'",
    }
    changes = [
        f"UPDATE tags SET value = {value} WHERE run_uuid = '{xgb}' AND key = '{key}'" for key, value in tags.items()
    ]
    with store(world, *changes) as uri:
        done = world.run("reproduce", f"run={xgb}", MLFLOW_TRACKING_URI=uri)
    refused(
        done,
        "data.md5: recorded 0, now 3e584720e6718d28509f86f05b7885a1",
        "lock.sha256: recorded 1, now ",
        f"python.version: recorded 3.10.1, now {'.'.join(map(str, sys.version_info[:3]))}",
        "library xgboost: recorded 1.0.0, now ",
    )
    assert done.stderr.count("  - ") == 4
    assert "abacus" not in done.stderr


@pytest.fixture
def changed(world: World) -> Iterator[World]:
    """The clone with a change that is not committed, one file of the code's, one not."""
    code = world.clone / "wineexp/core/errors.py"
    with kept(code):
        code.write_text(code.read_text() + "# changed\n")
        (world.clone / "notes.txt").write_text("a note\n")
        yield world
        (world.clone / "notes.txt").unlink()


def test_a_tree_with_another_diff_refuses_and_goes_on_where_it_is_told_to(changed: World, xgb: str) -> None:
    refused(changed.run("reproduce", f"run={xgb}"), "git.diff.sha256: recorded no diff, now ", "checkout=true")
    done = changed.run("reproduce", f"run={xgb}", "strict=false")
    assert done.returncode == 0, done.stderr
    assert "not as recorded: git.diff.sha256: recorded no diff, now " in done.stdout


def test_files_outside_the_code_are_no_difference(world: World) -> None:
    with kept_absent(world.clone / "notes.txt") as notes:
        notes.write_text("a note\n")
        dirty = world.train("model=majority")
    assert not world.artifact(dirty, "git.diff").read_bytes()
    done = world.run("reproduce", f"run={dirty}")
    assert done.returncode == 0, done.stderr


@contextmanager
def kept_absent(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink()


def test_without_git_nobody_knows_whether_the_code_is_the_same(world: World, xgb: str) -> None:
    with store(world, f"DELETE FROM tags WHERE run_uuid = '{xgb}' AND key LIKE 'git.%'") as uri:
        refused(world.run("reproduce", f"run={xgb}", MLFLOW_TRACKING_URI=uri), "git.commit: recorded nothing, now ")
        refused(world.run("reproduce", f"run={xgb}", "checkout=true", MLFLOW_TRACKING_URI=uri), "no git")


def test_a_checkout_reproduces_while_the_tree_is_another(changed: World, xgb: str) -> None:
    before = changed.state()
    done = changed.run("reproduce", f"run={xgb}", "checkout=true", "n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert "all of them equal bit for bit" in done.stdout
    assert changed.certificate()["run"] == xgb
    assert changed.state() == before


@pytest.mark.journey
def test_a_checkout_applies_the_recorded_diff_and_hands_on_the_exit_code(world: World) -> None:
    choice = world.clone / "conf/model/stump.yaml"
    changed = world.clone / "wineexp/core/errors.py"
    with kept(changed), kept_absent(choice):
        choice.write_text("_target_: sklearn.tree.DecisionTreeClassifier\nmax_depth: 1\nrandom_state: ${seed}\n")
        # Line ends of another system, which a diff must not lose.
        changed.write_bytes(changed.read_bytes() + "# naïve\r\n".encode())
        stump = world.train("model=stump")
    before = world.state()
    done = world.run("reproduce", f"run={stump}", "checkout=true")
    assert done.returncode == 0, done.stderr
    assert world.state() == before
    diff = world.artifact(stump, "git.diff")
    with kept(diff):
        diff.write_bytes(diff.read_bytes() + b"\n")
        refused(world.run("reproduce", f"run={stump}", "checkout=true"), "git.diff", "it is not applied")
    path = world.artifact(stump, "predictions.parquet")
    with kept(path):
        pd.read_parquet(path).assign(predicted="4").to_parquet(path, index=False)
        refused(world.run("reproduce", f"run={stump}", "checkout=true"), "predicted: recorded '4', now ")
    assert world.state() == before


def test_a_commit_that_cannot_do_it_is_told(world: World, xgb: str) -> None:
    before = world.state()
    first = git(world.clone, "rev-list", "--max-parents=0", "HEAD").strip()
    for commit, told in ((first, "predates wineexp.reproduce"), ("f" * 40, "is not in this clone"), ("--x", "not a")):
        change = f"UPDATE tags SET value = '{commit}' WHERE run_uuid = '{xgb}' AND key = 'git.commit'"
        with store(world, change) as uri:
            done = world.run("reproduce", f"run={xgb}", "checkout=true", MLFLOW_TRACKING_URI=uri)
        refused(done, commit, told)
    assert world.state() == before


@pytest.mark.journey
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_checkout_that_is_stopped_leaves_nothing(
    number: signal.Signals, code: int, world: World, xgb: str, tmp_path: Path
) -> None:
    before = world.state()
    with subprocess.Popen(
        [sys.executable, "-m", "wineexp.reproduce", f"run={xgb}", "checkout=true"],
        cwd=world.folder,
        env=environment(world.folder, PYTHONPATH=str(world.clone), TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("fold 1/5"):
                    break
            assert len(list(tmp_path.glob("wineexp-*/wineexp-*/wineexp/reproduce.py"))) == 1
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert not list(tmp_path.glob("wineexp-*"))
    assert not [folder for folder in folders_in_use() if str(tmp_path) in folder]
    assert world.state() == before


def folders_in_use() -> Iterator[str]:
    """The current folder of every process."""
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            yield str(path.readlink())
        except OSError:
            continue


@pytest.mark.journey
def test_trials_are_compared_by_what_they_have(world: World) -> None:
    done = world.run(
        *("train", "-m", "model=logreg", "model.C=tag(log,interval(0.000001,1))", "hydra/sweeper/pruner=median"),
        *("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.n_trials=5"),
    )
    assert done.returncode == 0, done.stderr
    query = """SELECT tags.run_uuid FROM tags JOIN metrics USING (run_uuid)
        WHERE tags.key = 'trial' AND metrics.key = 'fold/accuracy' GROUP BY tags.run_uuid HAVING count(*) {}"""
    with closing(sqlite3.connect(world.database)) as connection:
        whole = connection.execute(query.format("= 5")).fetchone()[0]
        pruned, folds = connection.execute(
            query.format("< 5").replace("SELECT tags.run_uuid", "SELECT tags.run_uuid, count(*)")
        ).fetchone()
    done = world.run("reproduce", f"run={whole}")
    assert done.returncode == 0, done.stderr
    assert "scores alone are compared" in done.stdout
    assert world.certificate()["compared"] == SCORES - METRICS
    done = world.run("reproduce", f"run={pruned}")
    assert done.returncode == 0, done.stderr
    assert f"It ended after {folds} of 5 folds" in done.stdout
    assert world.certificate()["compared"] == METRICS * (folds + 2) + 1
    change = f"UPDATE metrics SET value = 0.5 WHERE run_uuid = '{pruned}' AND key = 'fold/f1_macro' AND step = 0"
    with store(world, change) as uri:
        done = world.run("reproduce", f"run={pruned}", MLFLOW_TRACKING_URI=uri)
    refused(done, "the first is fold 1/5 f1_macro: recorded 0.5, now ")


def test_what_was_not_recorded_by_train_is_told(world: World) -> None:
    assert world.run("explore").returncode == 0
    failed = world.run("train", "model.subsample=7")
    assert failed.returncode == 1
    with closing(sqlite3.connect(world.database)) as connection:
        query = "SELECT run_uuid FROM runs WHERE {} ORDER BY start_time DESC"
        explored = connection.execute(query.format("name = 'explore'")).fetchone()[0]
        without = connection.execute(query.format("status = 'FAILED'")).fetchone()[0]
    refused(world.run("reproduce", f"run={explored}"), explored, "it was not recorded by train")
    refused(world.run("reproduce", f"run={without}"), without, "FAILED", "nothing to compare")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "run=: which one?"),
        (["run=" + "0" * 31 + "a"], "has no run of this id"),
        (["run=champion"], "champion: "),
        (["run=champion", "tracking=off"], "tracking=off"),
    ],
)
def test_a_run_that_is_not_there_is_told(arguments: list[str], told: str, world: World) -> None:
    refused(world.run("reproduce", *arguments), told)


def test_a_store_that_is_not_there_is_told(world: World, xgb: str) -> None:
    done = world.run("reproduce", f"run={xgb}", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    refused(done, "http://127.0.0.1:9", "the store cannot be opened")


def test_a_store_that_breaks_under_way_is_told(world: World, xgb: str) -> None:
    change = f"UPDATE runs SET artifact_uri = 'nowhere://' || artifact_uri WHERE run_uuid = '{xgb}'"
    with store(world, change) as uri:
        done = world.run("reproduce", f"run={xgb}", MLFLOW_TRACKING_URI=uri)
    refused(done, f"the store {uri} failed: ", "nowhere")


def neighbour(folder: Path) -> Path:
    """A wheel by which another environment finds what is installed in this one."""
    wheel, about = folder / "neighbour-1.0-py3-none-any.whl", "neighbour-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("neighbour.pth", f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: neighbour\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def test_a_checkout_installs_another_lock(world: World, tmp_path: Path) -> None:
    lock = world.clone / "requirements.txt"
    with kept(lock):
        # What is installed here is not what that lock, which a run is recorded with, would install.
        lock.write_text(f"{neighbour(tmp_path)}\n")
        other = world.train("model=xgb", "model.n_estimators=5")
    before = world.state()
    done = world.run("reproduce", f"run={other}", "checkout=true")
    assert done.returncode == 0, done.stderr
    assert "Installing the recorded requirements.txt" in done.stdout
    assert world.state() == before
    # One that cannot be installed is told.
    (tmp_path / "neighbour-1.0-py3-none-any.whl").unlink()
    refused(
        world.run("reproduce", f"run={other}", "checkout=true"), "requirements.txt cannot be installed", "neighbour"
    )
