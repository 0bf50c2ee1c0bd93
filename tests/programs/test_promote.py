"""`python -m wineexp.promote`: what moves an alias, what does not, and what is left of either."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import Command, run, run_concurrently
from wineexp.core.config import config_sha256
from wineexp.tracking.history import History
from wineexp.tracking.registry import Registry

# One test is several commands, each of which a busy machine takes its time for.
pytestmark = pytest.mark.timeout(600)

# The tree that is being developed may be dirty; fewer folds are quicker.
QUICK = ("allow=[dirty]", "split.n_repeats=1")
ANYTHING = ("gate.require=not_worse", "gate.margin=1", "gate.calibration_margin=1")


def registry(folder: Path, name: str = "wine") -> Registry:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Registry(f"sqlite:///{folder}/mlflow.db", name)


def trained(folder: Path, *overrides: str, **more: str) -> str:
    """The id of a run that `python -m wineexp.train <overrides>` makes."""
    done = run(folder, "train", *overrides, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("Recorded as run ")[2].split()[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each of two models, the worse of them promoted."""
    folder = tmp_path_factory.mktemp("promoted")
    trained(folder, "model=logreg", "feature=raw", "model.C=0.0001")
    done = run(folder, "promote", "best_of=cultivar-cultivar", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "champion names version 1 of wine now" in done.stdout
    trained(folder, "model=logreg")
    return folder


def test_a_version_carries_where_it_comes_from(folder: Path, tmp_path: Path) -> None:
    held = registry(folder)
    version = held.version("champion")
    client = held.client
    source = client.get_run(client.get_run(version.run_id).data.tags["source.run_id"])
    own = client.get_run(version.run_id).data
    for tag in ("git.commit", "git.dirty", "lock.sha256", "data.md5", "data.dvc", "python.version", "libraries"):
        assert own.tags[tag] == source.data.tags[tag]
    assert len(own.tags["split.sha256"]) == len(own.tags["config.sha256"]) == 64
    # The gate's folds are not those that the run was scored on.
    assert own.tags["split.sha256"] != source.data.tags["split.sha256"]
    assert {"golden.json", "card.md", "card.html", "config.yaml", "compiled.npz"} <= {
        Path(name).name for name in version.files
    }
    # The version tells it itself, whatever becomes of its run.
    facts = {name for name in own.tags if not name.startswith("mlflow.") and name != "decision"}
    assert {"git.commit", "config.sha256", "split.sha256", "machine.cores", "threads", "data.md5"} <= facts
    assert {name: version.tags[name] for name in facts} == {name: own.tags[name] for name in facts}
    assert version.tags["seed"] == own.params["seed"]
    config = OmegaConf.load(held.fetch(version, tmp_path) / "extra_files" / "config.yaml")
    assert config_sha256(config) == version.tags["config.sha256"]


def test_a_better_model_takes_the_alias_and_the_way_back_is_kept(folder: Path) -> None:
    promoted = run(folder, "promote", "best_of=cultivar-cultivar", *QUICK)
    assert promoted.returncode == 0, promoted.stderr
    assert registry(folder).aliases() == {"champion": 2, "previous": 1}

    # By as much of its id as a ranking shows.
    again = run(folder, "promote", f"run='{registry(folder).version('champion').run_id[:8]}'", *QUICK)
    assert again.returncode == 1
    assert "refused by better: accuracy is 0.0000 better than version 2's on the same folds" in again.stderr
    assert "a true gain of" in again.stderr
    # In MLflow one sees which is which.
    held = registry(folder).client
    (refused,) = held.search_runs(["1"], "tags.decision = 'refused'")
    assert refused.info.run_name == "promote promote logreg scaled grouped"
    assert refused.data.tags["mlflow.note.content"].startswith("**logreg** on scaled features of cultivar")
    assert len(held.search_runs(["1"], "tags.decision = 'promoted'")) == 2
    assert registry(folder).aliases() == {"champion": 2, "previous": 1}
    assert registry(folder).find("3") is None

    back = run(folder, "promote", "rollback=true", "reason='too bold, by half'")
    assert back.returncode == 0, back.stderr
    assert registry(folder).aliases() == {"champion": 1, "previous": 2}

    told = run(folder, "promote", "history=true")
    kinds = [
        line.split(", ")[1].split(" by ")[0] for line in told.stdout.splitlines() if line[:1].isdigit() and ". " in line
    ]
    assert kinds == ["promoted", "promoted", "refused", "rolled back"]
    assert "champion 1 → 2, previous nothing → 1" in told.stdout
    assert "champion not moved" in told.stdout
    assert told.stdout.rstrip().endswith("champion 2 → 1, previous 1 → 2\n   too bold, by half")
    assert told.stderr == ""
    # And forth.
    assert run(folder, "promote", "rollback=true").returncode == 0
    assert registry(folder).aliases() == {"champion": 2, "previous": 1}


@pytest.mark.parametrize(
    ("tags", "rule"),
    [
        ({"git.dirty": "true"}, "refused by dirty: the run's tree had changes that were not committed"),
        ({"data.md5": "0" * 32}, "refused by data: the run was made on data with md5 " + "0" * 32),
    ],
)
def test_a_run_of_unknown_code_or_data_is_refused_unless_allowed(folder: Path, tags: dict[str, str], rule: str) -> None:
    held = registry(folder)
    before = held.aliases()
    source = held.client.get_run(held.version("1").run_id).data.tags["source.run_id"]
    was = held.client.get_run(source).data.tags
    for key, value in tags.items():
        held.client.set_tag(source, key, value)
    try:
        done = run(folder, "promote", f"run={source}")
        assert done.returncode == 1
        assert rule in done.stderr
        assert registry(folder).aliases() == before
    finally:
        for key in tags:
            held.client.set_tag(source, key, was[key])


def test_a_config_that_was_altered_is_not_built(folder: Path) -> None:
    held = registry(folder)
    source = held.client.get_run(held.version("1").run_id).data.tags["source.run_id"]
    path = folder / "mlruns" / "cultivar-cultivar" / source / "artifacts" / "config.yaml"
    was = path.read_text()
    path.write_text(was.replace("LogisticRegression", "RidgeClassifier"))
    try:
        done = run(folder, "promote", f"run={source}", *QUICK)
    finally:
        path.write_text(was)
    assert done.returncode == 1
    assert "is not the config that the run was recorded with" in done.stderr


def test_a_champion_that_cannot_be_measured_any_more_is_told_with_a_way_on(folder: Path) -> None:
    champion = registry(folder).version("champion")
    path = folder / "mlruns" / "cultivar-cultivar" / champion.run_id / "artifacts" / "config.yaml"
    path.rename(path.with_suffix(".away"))
    try:
        done = run(folder, "promote", "best_of=cultivar-cultivar", *QUICK)
    finally:
        path.with_suffix(".away").rename(path)
    assert done.returncode == 1
    assert f"so version {champion.number}, which champion names, cannot be compared with" in done.stderr
    assert "rollback=true" in done.stderr


def test_another_question_needs_another_name(folder: Path) -> None:
    other = trained(folder, "model=majority", "target.ordinal=true")
    done = run(folder, "promote", f"run={other}", *QUICK)
    assert done.returncode == 1
    assert "answers another question (other target)" in done.stderr
    elsewhere = run(folder, "promote", f"run={other}", "registry.name=other", *QUICK)
    assert elsewhere.returncode == 1
    assert "refused by floors.matthews_corrcoef: 0.0000, must be at least 0.1: short by 0.1000" in elsewhere.stderr
    assert registry(folder, "other").aliases() == {}
    assert [each.kind for each in History(registry(folder, "other")).decisions()] == ["refused"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], "give exactly one of run=..., study=..., best_of=..., rollback=..., history=..., export=...; got none"),
        (["run=champion", "history=true"], "got run, history"),
        (["run=champoin"], "did you mean champion?"),
        (["best_of=cultivar-cultivr"], "did you mean cultivar-cultivar?"),
        (["run=champion", "allow=[dirt]"], "did you mean dirty?"),
        (["run=champion", "alias=previous"], "only promotions move this alias"),
        (["run=champion", "alias=v2"], "alias=v2: an alias has letters, digits, - and _"),
        (["run=champion", "alias=2"], "alias=2: an alias has letters, digits, - and _"),
        (["run=champion", "alias=Latest"], "alias=Latest: an alias has letters, digits, - and _"),
        (["run=champion", "tracking=off"], "a promotion needs the store"),
        (["run=champion", "gate.require=bettr"], "did you mean better?"),
        (["run=champion", "baseline=majority"], "a model is chosen with model@baseline=majority"),
        (["run=champion", "baseline.C=-1", "split.n_splits=x"], "2 faults"),
        (["rollback=true", "alias=staging"], "there is nothing to go back to"),
    ],
)
def test_a_mistake_is_told_in_one_message(folder: Path, overrides: list[str], told: str) -> None:
    done = run(folder, "promote", *overrides)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_two_promotions_at_once_are_one_story(tmp_path: Path) -> None:
    ids = [trained(tmp_path, f"model={name}") for name in ("logreg", "majority")]
    gate = (*QUICK, *ANYTHING, "gate.floors.matthews_corrcoef=-1")
    for done in run_concurrently(tmp_path, [("promote", f"run={each}", *gate) for each in ids]):
        assert done.returncode == 0, done.stderr
    held = registry(tmp_path)
    assert held.aliases() == {"champion": 2, "previous": 1}
    first, second = History(held).decisions()
    assert (first.moves, second.moves) == (
        {"champion": [None, 1]},
        {"champion": [1, 2], "previous": [None, 1]},
    )
    # Whoever came second was judged against whoever came first.
    assert any(reason.startswith("not_worse: ") and "version 1" in reason for reason in second.why)
    assert History(held).faults() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 30 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_or_read_only_disk_leaves_nothing_half_registered(small_disk: Path) -> None:
    source = trained(small_disk, "model=logreg")
    filling = small_disk / "filling"
    with filling.open("wb") as file:
        free = shutil.disk_usage(small_disk).free
        file.write(bytes(free - 60_000))
    full = run(small_disk, "promote", f"run={source}", *QUICK)
    assert (full.returncode, "Traceback" in full.stderr) == (1, False), full.stderr
    assert "space left" in full.stderr or "disk is full" in full.stderr
    filling.unlink()

    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    read_only = run(small_disk, "promote", f"run={source}", *QUICK, f"hydra.run.dir={small_disk.parent}/out")
    assert (read_only.returncode, "Traceback" in read_only.stderr) == (1, False), read_only.stderr
    assert "read" in read_only.stderr.lower()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)

    assert registry(small_disk).aliases() == {}
    assert registry(small_disk).find("1") is None
    done = run(small_disk, "promote", f"run={source}", *QUICK)
    assert done.returncode == 0, done.stderr
    assert registry(small_disk).aliases() == {"champion": 1}


@pytest.mark.journey
def test_the_winner_of_a_study_is_promoted(command: Command, tmp_path: Path) -> None:
    swept = command(
        *("train", "-m", "model=logreg", "model.C=interval(0.01, 10)", "hydra.sweeper.n_trials=3"),
        "hydra.sweeper.study_name=cellar",
    )
    assert swept.returncode == 0, swept.stderr
    done = command("promote", "study=cellar", *QUICK)
    assert done.returncode == 0, done.stderr
    held = registry(tmp_path)
    promoted = held.client.get_run(held.version("champion").run_id).data
    source = held.client.get_run(promoted.tags["source.run_id"]).data
    assert promoted.params["model.C"] == source.params["model.C"]
    (study,) = held.client.search_runs(["1"], "tags.study = 'cellar'")
    assert source.tags["trial"] == study.data.tags["best_trial"]
