"""`python -m wineexp.reproduce`: a run comes out again to the last bit, or the first difference is named."""

import itertools
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
from omegaconf import OmegaConf

from tests.conftest import empty_store, environment, run
from wineexp import UserError, compose, explore, promote, reproduce, train
from wineexp.core.config import config_sha256
from wineexp.core.in_process import Program
from wineexp.core.paths import ROOT
from wineexp.evaluation import metrics
from wineexp.tracking import provenance
from wineexp.workflows import worktree
from wineexp.workflows.certificate import Certificate

Done = subprocess.CompletedProcess[str]

# Each of the 178 cultivars is predicted once, in a fold or in the holdout: true and predicted class, the most frequent
# one of training, three probabilities.
N_CELLS = 178 * 6
N_METRICS = len(metrics.metrics_for(3, ordinal=False)) + len(["majority_accuracy"])
# Of each metric five folds, the holdout, mean and deviation; the standard error; and the fingerprint of the split.
N_SCORES = N_METRICS * (5 + 1 + 2) + 2

COPIES = itertools.count()


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

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    @contextmanager
    def entered(self, uri: str | None = None) -> Iterator[None]:
        """Let programs in this process take the clone for the project, and record in its store or another one."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", uri or self.uri)
            patch.setattr(provenance, "ROOT", self.clone)
            patch.setattr(worktree, "ROOT", self.clone)
            patch.chdir(self.folder)
            provenance.provenance_tags.cache_clear()
            yield
        provenance.provenance_tags.cache_clear()

    def train(self, *overrides: str) -> str:
        """The id of a new run."""
        with self.entered():
            return train(compose(*overrides)).run_id

    def reproduce(self, *overrides: str, uri: str | None = None) -> Certificate:
        with self.entered(uri):
            return reproduce(compose(*overrides, program="reproduce"))

    def refuses(self, *overrides: str, uri: str | None = None) -> str:
        """The message with which a reproduction is refused."""
        with pytest.raises(UserError) as refusal:
            self.reproduce(*overrides, uri=uri)
        return str(refusal.value)

    def command(self, *arguments: str, **more: str) -> Done:
        """A program as a process of its own, with the clone's code."""
        return run(self.folder, *arguments, **{"PYTHONPATH": str(self.clone), **more})

    def certificate(self) -> dict:
        """The one that was written last."""
        written = sorted(self.folder.glob("outputs/*/*/certificate.json"))[-1]
        assert written.with_suffix(".txt").exists()
        return json.loads(written.read_text())

    def artifact(self, run_id: str, name: str) -> Path:
        (path,) = self.folder.glob(f"mlruns/*/{run_id}/artifacts/{name}")
        return path

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
    shutil.copy(empty_store(), made.database)
    return made


@pytest.fixture(scope="module")
def xgb(world: World) -> str:
    """A run of the clone's."""
    return world.train("model=xgb", "model.n_estimators=5")


@contextmanager
def restored(path: Path) -> Iterator[None]:
    """A file that a test changes, and that is as it was afterwards."""
    before = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def removed_afterwards(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink()


def changed_store(world: World, *statements: str) -> str:
    """The URI of a copy of the store, changed behind MLflow's back; each a file of its own, which MLflow keeps open."""
    copy = world.folder / f"copy-{next(COPIES)}.db"
    with closing(sqlite3.connect(world.database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for statement in statements:
            assert target.execute(statement).rowcount > 0, statement
        target.commit()
    return f"sqlite:///{copy}"


def check_refused(done: Done, *parts: str) -> None:
    """The command failed with one message, which has these parts."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("error: ") == 1
    for part in parts:
        assert part in done.stderr


@pytest.mark.journey
def test_a_run_reproduces_with_other_threads(world: World, xgb: str) -> None:
    before = world.state()
    done = world.command("reproduce", f"run={xgb}", "n_jobs=2", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    certificate = world.certificate()
    assert certificate["reproduced"]
    assert certificate["verdict"] in done.stdout
    differences = [certificate[key] for key in ("n_compared", "n_differing", "first_difference")]
    assert differences == [N_SCORES + N_CELLS, 0, None]
    assert certificate["notes"] == []
    pairs = {pair["name"]: pair for part in ("origin", "values") for pair in certificate[part]}
    assert all(pair["equal"] and pair["recorded"] == pair["now"] for pair in pairs.values())
    assert pairs["git.commit"]["now"] == git(world.clone, "rev-parse", "HEAD").strip()
    with closing(sqlite3.connect(world.database)) as connection:
        query = "SELECT value FROM metrics WHERE run_uuid = ? AND key = 'fold/log_loss' AND step = 3"
        assert pairs["fold 4/5 log_loss"]["now"] == repr(connection.execute(query, [xgb]).fetchone()[0])
    assert world.state() == before


@pytest.mark.journey
def test_a_forest_that_was_trained_with_two_jobs_reproduces(world: World) -> None:
    forest = world.train("model=forest", "model.n_estimators=5", "n_jobs=2", "data=cultivar")
    certificate = world.reproduce(f"run={forest}")
    assert (certificate.n_compared, certificate.n_differing) == (N_SCORES + N_CELLS, 0)


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
    message = world.refuses(f"run={xgb}", uri=changed_store(world, *changes))
    certificate = world.certificate()
    differing = {pair["name"]: pair for pair in certificate["values"] if not pair["equal"]}
    assert list(differing) == list(planted)
    assert {pair["recorded"] for pair in differing.values()} == {"0.125"}
    first, now = "fold 3/5 accuracy", differing["fold 3/5 accuracy"]["now"]
    difference = f"the first is {first}: recorded 0.125, now {now}"
    assert message == f"run {xgb}: Not reproduced: 3 of {N_SCORES + N_CELLS} values differ; {difference}"
    assert certificate["first_difference"] == {"name": first, "recorded": "0.125", "now": now}
    assert not certificate["reproduced"]


def test_the_first_prediction_that_was_changed_is_named_to_its_last_bit(world: World, xgb: str) -> None:
    path = world.artifact(xgb, "predictions.parquet")
    table = pd.read_parquet(path)
    # A bit in the second fold, and a class in the holdout.
    position = int((table.fold == 1).to_numpy().argmax()) + 3
    true = float(table["probability 2"].astype(float)[position])
    table["probability 2"] = table["probability 2"].astype(float)
    table.loc[position, "probability 2"] = np.nextafter(true, 1)
    table.loc[len(table) - 1, "predicted"] = "none"
    with restored(path):
        table.to_parquet(path, index=False)
        message = world.refuses(f"run={xgb}")
    name = f"fold 2/5 row {table.row[position]} probability 2"
    assert "2 of " in message
    assert f"the first is {name}: recorded {float(np.nextafter(true, 1))!r}, now {true!r}" in message


def test_a_row_that_is_missing_and_one_of_an_unknown_fold_are_found(world: World, xgb: str) -> None:
    path = world.artifact(xgb, "predictions.parquet")
    table = pd.read_parquet(path)
    missing = table.row[0]
    table.loc[0, "fold"] = 7
    with restored(path):
        table.to_parquet(path, index=False)
        message = world.refuses(f"run={xgb}")
    assert "12 of " in message
    assert f"the first is fold 1/5 row {missing} true: recorded nothing, now '" in message


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("config.yaml", None, "config.yaml that can be verified; it was deleted"),
        ("config.yaml", "model: {_target_: os.system}\n", "is not the config that the run was recorded with"),
        ("predictions.parquet", None, "predictions.parquet is no longer there"),
        ("predictions.parquet", "rows\n", "cannot be read"),
    ],
)
def test_an_artifact_that_was_deleted_or_damaged_is_named(
    name: str, content: str | None, part: str, world: World, xgb: str
) -> None:
    path = world.artifact(xgb, name)
    with restored(path):
        path.unlink() if content is None else path.write_text(content)
        message = world.refuses(f"run={xgb}")
    assert xgb in message
    assert part in message


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
    message = world.refuses(f"run={xgb}", uri=changed_store(world, *changes))
    for part in (
        "data.md5: recorded 0, now 3e584720e6718d28509f86f05b7885a1",
        "lock.sha256: recorded 1, now ",
        f"python.version: recorded 3.10.1, now {'.'.join(map(str, sys.version_info[:3]))}",
        "library xgboost: recorded 1.0.0, now ",
    ):
        assert part in message
    assert message.count("  - ") == 4
    assert "abacus" not in message


@pytest.fixture
def changed(world: World) -> Iterator[World]:
    """The clone with a change that is not committed, in one file of the code and in one that is no code."""
    code = world.clone / "wineexp/core/errors.py"
    with restored(code):
        code.write_text(code.read_text() + "# changed\n")
        (world.clone / "notes.txt").write_text("a note\n")
        yield world
        (world.clone / "notes.txt").unlink()


def test_another_diff_is_refused_unless_strict_is_false(
    changed: World, xgb: str, caplog: pytest.LogCaptureFixture
) -> None:
    message = changed.refuses(f"run={xgb}")
    assert "git.diff.sha256: recorded no diff, now " in message
    assert "checkout=true" in message
    assert changed.reproduce(f"run={xgb}", "strict=false").n_differing == 0
    assert "not as recorded: git.diff.sha256: recorded no diff, now " in caplog.text


@pytest.mark.journey
def test_files_outside_the_code_are_no_difference(world: World) -> None:
    with removed_afterwards(world.clone / "notes.txt") as notes:
        notes.write_text("a note\n")
        trained = world.train("model=majority")
    assert not list(world.folder.glob(f"mlruns/*/{trained}/artifacts/git.diff"))
    assert world.reproduce(f"run={trained}").n_differing == 0


def test_a_run_that_was_recorded_without_git_is_refused(world: World, xgb: str) -> None:
    uri = changed_store(world, f"DELETE FROM tags WHERE run_uuid = '{xgb}' AND key LIKE 'git.%'")
    assert "git.commit: recorded nothing, now " in world.refuses(f"run={xgb}", uri=uri)
    assert "no git" in world.refuses(f"run={xgb}", "checkout=true", uri=uri)


@pytest.mark.parametrize("program", [reproduce, promote], ids=["reproduce", "promote"])
def test_a_run_of_an_earlier_release_is_refused_by_the_name_that_is_gone(
    world: World, xgb: str, program: Program
) -> None:
    path = world.artifact(xgb, "config.yaml")
    with restored(path):
        cfg = OmegaConf.load(path)
        cfg.data = {"_target_": "wineexp.data.cultivar"}
        path.write_text(OmegaConf.to_yaml(cfg))
        change = f"UPDATE tags SET value = '{config_sha256(cfg)}' WHERE run_uuid = '{xgb}' AND key = 'config.sha256'"
        uri = changed_store(world, change)
        name = program.__name__.rpartition(".")[2]
        with world.entered(uri), pytest.raises(UserError, match="a version recorded cannot be built any more"):
            program(compose(f"run={xgb}", program=name))


@pytest.mark.journey
def test_a_checkout_reproduces_while_the_tree_is_another(changed: World, xgb: str) -> None:
    before = changed.state()
    done = changed.command("reproduce", f"run={xgb}", "checkout=true", "n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert "all of them equal bit for bit" in done.stdout
    assert changed.certificate()["run"] == xgb
    assert changed.state() == before


@pytest.mark.journey
def test_a_checkout_applies_the_recorded_diff_and_hands_on_the_exit_code(world: World) -> None:
    choice = world.clone / "conf/model/stump.yaml"
    changed = world.clone / "wineexp/core/errors.py"
    with restored(changed), removed_afterwards(choice):
        choice.write_text("_target_: sklearn.tree.DecisionTreeClassifier\nmax_depth: 1\nrandom_state: ${seed}\n")
        # Line ends of another system, which a diff must not lose.
        changed.write_bytes(changed.read_bytes() + "# naïve\r\n".encode())
        done = world.command("train", "model=stump")
        assert done.returncode == 0, done.stderr
        stump = done.stdout.split("Recorded as run ")[1][:32]
    before = world.state()
    done = world.command("reproduce", f"run={stump}", "checkout=true")
    assert done.returncode == 0, done.stderr
    assert world.state() == before
    diff = world.artifact(stump, "git.diff")
    with restored(diff):
        diff.write_bytes(diff.read_bytes() + b"\n")
        check_refused(world.command("reproduce", f"run={stump}", "checkout=true"), "git.diff", "it is not applied")
    path = world.artifact(stump, "predictions.parquet")
    with restored(path):
        pd.read_parquet(path).assign(predicted="4").to_parquet(path, index=False)
        check_refused(world.command("reproduce", f"run={stump}", "checkout=true"), "predicted: recorded '4', now ")
    assert world.state() == before


def test_a_commit_that_cannot_reproduce_the_run_is_named(world: World, xgb: str) -> None:
    before = world.state()
    first = git(world.clone, "rev-list", "--max-parents=0", "HEAD").strip()
    for commit, part in ((first, "predates wineexp.reproduce"), ("f" * 40, "is not in this clone"), ("--x", "not a")):
        change = f"UPDATE tags SET value = '{commit}' WHERE run_uuid = '{xgb}' AND key = 'git.commit'"
        message = world.refuses(f"run={xgb}", "checkout=true", uri=changed_store(world, change))
        assert commit in message
        assert part in message
    assert world.state() == before


@pytest.mark.journey
def test_a_checkout_that_is_stopped_leaves_nothing(world: World, xgb: str, tmp_path: Path) -> None:
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
            process.terminate()
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM, errors
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
    done = world.command(
        *("train", "-m", "model=logreg", "model.C=tag(log,interval(0.000001,1))", "hydra/sweeper/pruner=median"),
        *("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.n_trials=5"),
    )
    assert done.returncode == 0, done.stderr
    query = """SELECT tags.run_uuid FROM tags JOIN metrics USING (run_uuid)
        WHERE tags.key = 'trial' AND metrics.key = 'fold/accuracy' GROUP BY tags.run_uuid HAVING count(*) {}"""
    with closing(sqlite3.connect(world.database)) as connection:
        whole = connection.execute(query.format("= 5")).fetchone()[0]
        pruned, n_folds = connection.execute(
            query.format("< 5").replace("SELECT tags.run_uuid", "SELECT tags.run_uuid, count(*)")
        ).fetchone()
    certificate = world.reproduce(f"run={whole}")
    assert "only its scores are compared" in certificate.notes[0]
    assert certificate.n_compared == N_SCORES - N_METRICS
    certificate = world.reproduce(f"run={pruned}")
    assert certificate.notes[1].startswith(f"It ended after {n_folds} of 5 folds")
    assert certificate.n_compared == N_METRICS * (n_folds + 2) + 2
    change = f"UPDATE metrics SET value = 0.5 WHERE run_uuid = '{pruned}' AND key = 'fold/f1_macro' AND step = 0"
    message = world.refuses(f"run={pruned}", uri=changed_store(world, change))
    assert "the first is fold 1/5 f1_macro: recorded 0.5, now " in message


@pytest.mark.journey
def test_runs_that_train_did_not_record_or_that_failed_are_refused(world: World) -> None:
    with world.entered():
        explored = explore(compose(program="explore")).run_id
        with pytest.raises(UserError):
            train(compose("model.tree_method=histt"))
    with closing(sqlite3.connect(world.database)) as connection:
        (failed,) = connection.execute("SELECT run_uuid FROM runs WHERE status = 'FAILED'").fetchone()
    message = world.refuses(f"run={explored}")
    assert explored in message
    assert "it was not recorded by train" in message
    message = world.refuses(f"run={failed}")
    assert failed in message
    assert "FAILED" in message
    assert "nothing to compare" in message


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ([], "run=: which one?"),
        (["run=" + "0" * 31 + "a"], "has no run of this id"),
        (["run=champion"], "champion: "),
        (["run=champion", "tracking=off"], "tracking=off"),
    ],
)
def test_a_run_that_cannot_be_found_is_refused(overrides: list[str], part: str, world: World) -> None:
    assert part in world.refuses(*overrides)


def test_a_store_that_cannot_be_reached_is_named(world: World, xgb: str) -> None:
    message = world.refuses(f"run={xgb}", uri="http://127.0.0.1:9")
    assert message.startswith("tracking.uri=http://127.0.0.1:9: the store cannot be opened")


def test_a_store_that_fails_while_it_is_read_is_named(world: World, xgb: str) -> None:
    uri = changed_store(world, f"UPDATE runs SET artifact_uri = 'nowhere://' || artifact_uri WHERE run_uuid = '{xgb}'")
    message = world.refuses(f"run={xgb}", uri=uri)
    assert message.startswith(f"the store {uri} failed: ")
    assert "nowhere" in message


def neighbour(folder: Path) -> Path:
    """A wheel by which another environment finds what is installed in this one."""
    wheel, about = folder / "neighbour-1.0-py3-none-any.whl", "neighbour-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("neighbour.pth", f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: neighbour\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


@pytest.mark.journey
def test_a_checkout_installs_another_lock(world: World, tmp_path: Path) -> None:
    lock = world.clone / "requirements.txt"
    with restored(lock):
        # What is installed here is not what that lock, which a run is recorded with, would install.
        lock.write_text(f"{neighbour(tmp_path)}\n")
        other = world.train("model=xgb", "model.n_estimators=5")
    before = world.state()
    done = world.command("reproduce", f"run={other}", "checkout=true")
    assert done.returncode == 0, done.stderr
    assert "Installing the recorded requirements.txt" in done.stdout
    assert world.state() == before
    # The wheel that the lock names is gone.
    (tmp_path / "neighbour-1.0-py3-none-any.whl").unlink()
    check_refused(
        world.command("reproduce", f"run={other}", "checkout=true"), "requirements.txt cannot be installed", "neighbour"
    )
