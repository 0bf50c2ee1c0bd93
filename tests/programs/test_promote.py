"""`python -m wineexp.promote`: what moves an alias, what does not, and what is left of either."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import Command, new_database, run, run_concurrently
from wineexp import UserError, compose, promote, reproduce, train
from wineexp.core.config import config_sha256
from wineexp.promote import PromoteResult
from wineexp.tracking import names
from wineexp.tracking.history import History
from wineexp.tracking.registry import Registry
from wineexp.workflows import alias_move, candidate, promotion

# The tree that is being developed may be dirty; fewer folds are quicker.
QUICK = ("allow=[dirty]", "repeats=1")
ANYTHING = ("gate.require=not_worse", "gate.margin=1", "gate.calibration_margin=1", "gate.floors.matthews_corrcoef=-1")


@dataclass(frozen=True)
class Store:
    """A store in a folder, and programs that run there in this process."""

    folder: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @contextmanager
    def entered(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            patch.chdir(self.folder)
            yield

    def train(self, *overrides: str) -> str:
        """The id of a new run."""
        with self.entered():
            return train(compose(*overrides)).run_id

    def promote(self, *overrides: str, compiled: bool = False) -> PromoteResult:
        """What a promotion gives; only one that is to be compiled waits for the process that does so."""
        with self.entered(), pytest.MonkeyPatch.context() as patch:
            if not compiled:
                patch.setattr(candidate, "compile_pipeline", lambda *_: (None, "a test needs no compiled form"))
            return promote(compose(*overrides, program="promote"))

    def refuses(self, *overrides: str) -> str:
        """The message with which a promotion is refused."""
        with pytest.raises(UserError) as refusal:
            self.promote(*overrides)
        return str(refusal.value)

    def registry(self, name: str = "wine") -> Registry:
        with self.entered():
            return Registry(self.uri, name)

    def aliases(self) -> dict[str, int]:
        return self.registry().aliases()


def new_store(folder: Path) -> Store:
    folder.mkdir(exist_ok=True)
    new_database(folder)
    return Store(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a run of each of two models, the worse of them promoted."""
    store = new_store(tmp_path_factory.mktemp("promoted"))
    store.train("model=logreg", "feature=raw", "model.C=0.0001")
    assert store.promote("best_of=cultivar-cultivar", *QUICK, compiled=True).version.number == 1
    store.train("model=logreg")
    return store


def source_of(store: Store, version: str) -> str:
    """The id of the run that a version was promoted from."""
    registry = store.registry()
    return registry.client.get_run(registry.version(version).run_id).data.tags[names.SOURCE_RUN_ID]


def test_a_version_carries_where_it_comes_from(store: Store, tmp_path: Path) -> None:
    registry = store.registry()
    version = registry.version("champion")
    own = registry.client.get_run(version.run_id).data
    source = registry.client.get_run(own.tags[names.SOURCE_RUN_ID]).data
    for tag in (
        *("git.commit", "git.dirty", "lock.sha256", "data.md5", "data.dvc", "python.version", "libraries"),
        "wineexp.version",
    ):
        assert own.tags[tag] == source.tags[tag]
    assert len(own.tags["split.sha256"]) == len(own.tags["config.sha256"]) == 64
    # The gate splits as the run did, but its folds are not those that the run was scored on.
    assert own.params["split"] == "grouped (the gate's)"
    assert own.params["split.splitter._target_"] == source.params["split._target_"]
    assert own.tags["split.sha256"] != source.tags["split.sha256"]
    assert {"golden.json", "background.json", "card.md", "card.html", "config.yaml", "compiled.npz"} <= {
        Path(name).name for name in version.files
    }
    # The version has the run's tags, too, in case the run is deleted.
    tags = {name for name in own.tags if not name.startswith("mlflow.") and name != "decision"}
    assert {"git.commit", "config.sha256", "split.sha256", "machine.cores", "threads", "data.md5"} <= tags
    assert {name: version.tags[name] for name in tags} == {name: own.tags[name] for name in tags}
    assert version.tags["seed"] == own.params["seed"]
    config = OmegaConf.load(registry.fetch(version, tmp_path) / "extra_files" / "config.yaml")
    assert config_sha256(config) == version.tags["config.sha256"]


@pytest.mark.journey
def test_a_better_model_takes_the_alias_and_can_be_rolled_back(store: Store) -> None:
    store.promote("best_of=cultivar-cultivar", *QUICK)
    assert store.aliases() == {"champion": 2, "previous": 1}

    # A run is also named by as much of its id as a ranking shows.
    worse = store.train("model=logreg", "feature=raw", "model.C=0.0002")
    message = store.refuses(f"run='{worse[:8]}'", *QUICK)
    assert "worse than version 2's on the same folds" in message
    assert "a true gain of" in message
    # MLflow shows the kind of each decision, for the run that was put through the gate and the one that it came from.
    client = store.registry().client
    refused = client.search_runs(["1"], "tags.decision = 'refused'")
    assert {run.info.run_name for run in refused} == {"promote logreg raw grouped", "logreg raw grouped"}
    assert refused[0].data.tags["mlflow.note.content"].startswith("**logreg** on raw features of cultivar")
    assert len(client.search_runs(["1"], "tags.decision = 'promoted'")) == 4
    assert store.aliases() == {"champion": 2, "previous": 1}
    assert store.registry().find("3") is None

    assert store.promote("rollback=true", "reason='too bold, by half'").version.number == 1
    assert store.aliases() == {"champion": 1, "previous": 2}

    shown = run(store.folder, "promote", "history=true")
    kinds = [
        line.split(", ")[1].split(" by ")[0]
        for line in shown.stdout.splitlines()
        if line[:1].isdigit() and ". " in line
    ]
    assert kinds == ["promoted", "promoted", "refused", "rolled back"]
    assert "champion 1 → 2, previous nothing → 1" in shown.stdout
    assert "champion not moved" in shown.stdout
    assert shown.stdout.rstrip().endswith("champion 2 → 1, previous 1 → 2\n   too bold, by half")
    assert shown.stderr == ""
    # Rolling back twice changes nothing.
    store.promote("rollback=true")
    assert store.aliases() == {"champion": 2, "previous": 1}


def test_a_model_that_is_promoted_twice_or_to_another_alias_is_not_trained_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_again(*_: object) -> None:
        pytest.fail("it was trained again")

    source, number = source_of(store, "1"), store.registry().version("1").number
    n_versions = len(store.registry().versions())
    monkeypatch.setattr(promotion.Promotion, "_train", train_again)
    assert store.promote(f"run={source}", *QUICK, "alias=staging").version.number == number
    assert store.aliases()["staging"] == number
    decisions = History(store.registry()).decisions()
    assert decisions[-1].moves == {"staging": [None, number]}
    assert any(reason.startswith("row_milliseconds: ") for reason in decisions[-1].why)
    # Again there is nothing to do, and no decision.
    assert store.promote(f"run={source}", *QUICK, "alias=staging").version.number == number
    assert History(store.registry()).decisions() == decisions
    assert len(store.registry().versions()) == n_versions
    # The rules hold for a version that is there already, too.
    store.registry().client.delete_registered_model_alias("wine", "staging")
    assert "refused by floors.accuracy" in store.refuses(
        f"run={source}", *QUICK, "alias=staging", "gate.floors.accuracy=1"
    )


@pytest.mark.journey
def test_a_baseline_that_is_ahead_is_said_and_written_down(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    promoted = store.promote(f"run={source_of(store, '1')}", "registry.name=ahead", *QUICK)
    assert promoted.version.number == 1
    (decision,) = History(store.registry("ahead")).decisions()
    (remark,) = [reason for reason in decision.why if reason.startswith("baseline: ")]
    assert "baseline: linear is ahead on the same folds, accuracy 0.9" in remark
    assert "which the folds confirm" in remark
    assert remark in caplog.text


@pytest.mark.parametrize(
    ("tag", "value", "refusal"),
    [
        ("git.dirty", "true", "refused by dirty: the run's tree had changes that were not committed"),
        ("data.md5", "0" * 32, "refused by data: the run was made on data with md5 " + "0" * 32),
    ],
)
def test_a_run_of_unknown_code_or_data_is_refused(store: Store, tag: str, value: str, refusal: str) -> None:
    client, aliases, source = store.registry().client, store.aliases(), source_of(store, "1")
    before = client.get_run(source).data.tags[tag]
    client.set_tag(source, tag, value)
    try:
        assert refusal in store.refuses(f"run={source}")
    finally:
        client.set_tag(source, tag, before)
    assert store.aliases() == aliases


def test_a_config_that_was_altered_is_not_built(store: Store) -> None:
    source = source_of(store, "1")
    path = store.folder / "mlruns" / "cultivar-cultivar" / source / "artifacts" / "config.yaml"
    before = path.read_text()
    path.write_text(before.replace("LogisticRegression", "RidgeClassifier"))
    try:
        message = store.refuses(f"run={source}", *QUICK)
    finally:
        path.write_text(before)
    assert "is not the config that the run was recorded with" in message


@pytest.mark.parametrize("change", ["deleted", "recorded by wineexp 0.1"])
def test_a_champion_that_cannot_be_measured_is_named_with_a_remedy(store: Store, change: str) -> None:
    champion, client = store.registry().version("champion"), store.registry().client
    path = store.folder / "mlruns" / "cultivar-cultivar" / champion.run_id / "artifacts" / "config.yaml"
    text, sha256 = path.read_text(), champion.tags["config.sha256"]
    if change == "deleted":
        path.unlink()
        part = "config.yaml that can be verified; it was deleted"
    else:
        cfg = OmegaConf.create(text)
        cfg.data = {"_target_": "wineexp.data.cultivar"}
        path.write_text(OmegaConf.to_yaml(cfg))
        client.set_tag(champion.run_id, "config.sha256", config_sha256(cfg))
        part = "data._target_=wineexp.data.cultivar: wineexp has no such class or function"
    try:
        message = store.refuses("best_of=cultivar-cultivar", *QUICK)
    finally:
        path.write_text(text)
        client.set_tag(champion.run_id, "config.sha256", sha256)
    assert part in message
    assert f"so version {champion.number}, which champion names, cannot be compared with" in message
    assert "rollback=true" in message


def test_a_run_that_was_deleted_is_neither_promoted_nor_compared_with_nor_reproduced(store: Store) -> None:
    client, champion, source = store.registry().client, store.registry().version("champion"), source_of(store, "1")
    for run_id, word, overrides in (
        (source, f"run={source}", QUICK),
        (champion.run_id, "best_of=cultivar-cultivar", QUICK),
    ):
        client.delete_run(run_id)
        try:
            message = store.refuses(word, *overrides)
            with store.entered(), pytest.raises(UserError, match=f"run {run_id} .* was deleted in MLflow"):
                reproduce(compose(f"run={run_id}", program="reproduce"))
        finally:
            client.restore_run(run_id)
        assert f"run {run_id} (" in message
        assert f"mlflow runs restore --run-id {run_id}" in message


@pytest.mark.journey
def test_another_target_needs_another_registered_model(store: Store) -> None:
    other = store.train("model=majority", "target.ordinal=true")
    assert "has another task (other target)" in store.refuses(f"run={other}", *QUICK)
    message = store.refuses(f"run={other}", "registry.name=other", *QUICK)
    assert message == "refused by floors.matthews_corrcoef: 0.0000, must be at least 0.1: short by 0.1000"
    registry = store.registry("other")
    assert registry.aliases() == {}
    assert [decision.kind for decision in History(registry).decisions()] == ["refused"]


@pytest.mark.parametrize(
    ("overrides", "part"),
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
        (["run=champion", "baseline.max_iter=-1", "split=repeated", "split.n_splits=x"], "2 faults"),
        (["run=champion", "repeats=0"], "repeats=0: repeats >= 1 must hold"),
        (["rollback=true", "alias=staging"], "there is nothing to go back to"),
    ],
)
def test_a_mistake_is_named_with_its_rule(store: Store, overrides: list[str], part: str) -> None:
    assert part in store.refuses(*overrides)


@pytest.mark.journey
def test_a_promotion_is_compared_with_what_the_alias_names_by_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another promotion moves the alias after the candidate was compared with the version that it named before."""
    registry = store.registry("raced")
    version, moved = store.registry().version("1"), alias_move.promote

    def promote_second(*arguments: object, **more: object) -> object:
        monkeypatch.setattr(promotion.alias_move, "promote", moved)
        model_id = version.source.removeprefix("models:/")
        made = {"run_id": version.run_id, "model_id": model_id, "tags": version.tags}
        first = moved(registry, "champion", None, [], find=lambda: None, **made)
        assert first is not None
        return moved(*arguments, **more)

    monkeypatch.setattr(promotion.alias_move, "promote", promote_second)
    result = store.promote("best_of=cultivar-cultivar", "registry.name=raced", *QUICK, *ANYTHING)
    assert result.version.number == 2
    first, second = History(registry).decisions()
    assert (first.moves, second.moves) == ({"champion": [None, 1]}, {"champion": [1, 2], "previous": [None, 1]})
    assert any(reason.startswith("not_worse: ") and "version 1" in reason for reason in second.why)
    assert History(registry).faults() == []


@pytest.mark.journey
def test_two_promotions_at_once_are_two_decisions(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    ids = [store.train(f"model={name}") for name in ("logreg", "majority")]
    for done in run_concurrently(tmp_path, [("promote", f"run={run_id}", *QUICK, *ANYTHING) for run_id in ids]):
        assert done.returncode == 0, done.stderr
    assert store.aliases() == {"champion": 2, "previous": 1}
    history = History(store.registry())
    first, second = history.decisions()
    assert (first.moves, second.moves) == ({"champion": [None, 1]}, {"champion": [1, 2], "previous": [None, 1]})
    # The second one was compared with the first one.
    assert any(reason.startswith("not_worse: ") and "version 1" in reason for reason in second.why)
    assert history.faults() == []


@pytest.mark.journey
def test_a_full_or_read_only_disk_leaves_nothing_half_registered(disk: Path) -> None:
    # Processes, since the files that this one had open would keep the disk from becoming read-only.
    trained = run(disk, "train", "model=logreg")
    source = trained.stdout.rpartition("Recorded as run ")[2].split()[0]
    filling = disk / "filling"
    with filling.open("wb") as file:
        free = shutil.disk_usage(disk).free
        file.write(bytes(free - 60_000))
    full = run(disk, "promote", f"run={source}", *QUICK)
    assert (full.returncode, "Traceback" in full.stderr) == (1, False), full.stderr
    assert "space left" in full.stderr or "disk is full" in full.stderr
    filling.unlink()

    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    read_only = run(disk, "promote", f"run={source}", *QUICK, f"hydra.run.dir={disk.parent}/out")
    assert (read_only.returncode, "Traceback" in read_only.stderr) == (1, False), read_only.stderr
    assert "read" in read_only.stderr.lower()
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)

    store = Store(disk)
    assert store.aliases() == {}
    assert store.registry().find("1") is None
    assert store.promote(f"run={source}", *QUICK).version.number == 1
    assert store.aliases() == {"champion": 1}


@pytest.mark.journey
def test_the_winner_of_a_study_is_promoted(command: Command, tmp_path: Path) -> None:
    swept = command(
        *("train", "-m", "model=logreg", "model.C=interval(0.01, 10)", "hydra.sweeper.n_trials=3"),
        "hydra.sweeper.study_name=cellar",
    )
    assert swept.returncode == 0, swept.stderr
    done = command("promote", "study=cellar", *QUICK)
    assert done.returncode == 0, done.stderr
    assert "champion names version 1 of wine now" in done.stdout
    client = Store(tmp_path).registry().client
    promoted = client.get_run(Store(tmp_path).registry().version("champion").run_id).data
    source = client.get_run(promoted.tags[names.SOURCE_RUN_ID]).data
    assert promoted.params["model.C"] == source.params["model.C"]
    (study,) = client.search_runs(["1"], "tags.study = 'cellar'")
    assert source.tags["trial"] == study.data.tags["best_trial"]
