"""The registry: what is loaded is what was registered, and decisions tell one story, whoever decides at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from tests.conftest import composed, environment
from wineexp.core.errors import UserError
from wineexp.core.paths import ROOT
from wineexp.models import manifest, persistence
from wineexp.tracking import registry as registries
from wineexp.tracking.history import PREFIX, Audit
from wineexp.tracking.registry import FILES, Registry, Version
from wineexp.tracking.run import Run
from wineexp.workflows import record
from wineexp.workflows.experiment import assemble


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registered model `wine` in a store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Registry(f"sqlite:///{tmp_path}/mlflow.db", "wine")


@pytest.fixture
def version(registry: Registry, tmp_path: Path) -> Version:
    """A version of a model that was trained a moment ago."""
    experiment = assemble(composed("model=logreg"))
    folds, fitted = list(experiment.cross_validate()), experiment.fit()
    (tmp_path / "files").mkdir()
    run = Run(registry.uri, "cultivar-cultivar", "logreg", {}, tmp_path / "files")
    with run:
        files = {manifest.GOLDEN_ROWS_FILE: persistence.write_golden_rows(fitted, experiment.task.X.head())}
        model_id = record.complete(run, experiment, folds, fitted, None, None, files)
    return registry.register(run.id, model_id, registry.seal(model_id))


def stored(version: Version) -> Path:
    """Where the files of a version lie."""
    model = mlflow.MlflowClient().get_logged_model(version.source.removeprefix("models:/"))
    return Path(model.artifact_location.removeprefix("file://"))


def resealed(registry: Registry, version: Version) -> Version:
    """The version, with the digests of whatever its files are now: an attacker who can write there, can write here."""
    registry.client.set_model_version_tag("wine", "1", FILES, json.dumps(manifest.create(stored(version))))
    return registry.version("1")


class Bomb:
    """What a pickle runs when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.path}",))


def test_a_version_is_loaded_and_answers_as_it_did(registry: Registry, version: Version, tmp_path: Path) -> None:
    folder = registry.fetch(version, tmp_path / "fetched")
    assert persistence.pipeline_golden_rows_gap(registry.load(version), folder) == 0
    assert persistence.MODEL_FILE in version.files
    assert version.tags["model.sha256"] == manifest.digest(version.files)


def test_swapped_weights_are_refused_by_name(registry: Registry, version: Version) -> None:
    other = assemble(composed("model=logreg", "model.C=0.01")).fit()
    skops.io.dump(other, stored(version) / persistence.MODEL_FILE)
    with pytest.raises(UserError, match=r"model\.skops in the stored model has SHA-256"):
        registry.load(version)


def test_a_file_cut_short_is_refused_even_where_its_digest_was_swapped_too(
    registry: Registry, version: Version
) -> None:
    model = stored(version) / persistence.MODEL_FILE
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(UserError, match="has SHA-256"):
        registry.load(version)
    with pytest.raises(UserError, match="no whole skops file"):
        registry.load(resealed(registry, version))


def test_a_pickle_bomb_does_not_go_off(registry: Registry, version: Version, tmp_path: Path) -> None:
    import pickle

    (stored(version) / persistence.MODEL_FILE).write_bytes(pickle.dumps(Bomb(tmp_path / "bang")))
    with pytest.raises(UserError, match="no whole skops file"):
        registry.load(resealed(registry, version))
    assert not (tmp_path / "bang").exists()


def test_a_type_that_is_not_listed_is_refused_by_name(registry: Registry, version: Version, tmp_path: Path) -> None:
    model = LogisticRegression()
    model.bomb = Bomb(tmp_path / "bang")
    skops.io.dump(model, stored(version) / persistence.MODEL_FILE)
    with pytest.raises(UserError, match=r"tests\.tracking\.test_registry\.Bomb"):
        registry.load(resealed(registry, version))
    assert not (tmp_path / "bang").exists()


def test_a_list_of_types_inside_the_artifact_has_no_say(registry: Registry, version: Version, tmp_path: Path) -> None:
    model = LogisticRegression()
    model.bomb = Bomb(tmp_path / "bang")
    skops.io.dump(model, stored(version) / persistence.MODEL_FILE)
    description = stored(version) / "MLmodel"
    listed = description.read_text().replace("- numpy.dtype", "- numpy.dtype\n    - tests.tracking.test_registry.Bomb")
    description.write_text(listed)
    with pytest.raises(UserError, match=r"tests\.tracking\.test_registry\.Bomb"):
        registry.load(resealed(registry, version))


@pytest.mark.parametrize("name", ["added.py", "extra_files/added.json"])
def test_an_added_file_is_refused(registry: Registry, version: Version, name: str) -> None:
    (stored(version) / name).write_text("1")
    with pytest.raises(UserError, match="was added"):
        registry.load(version)


def test_a_missing_file_is_refused(registry: Registry, version: Version) -> None:
    (stored(version) / persistence.MODEL_FILE).unlink()
    with pytest.raises(UserError, match=r"model\.skops is missing"):
        registry.load(version)


def test_a_path_that_leads_out_of_the_artifact_is_refused(registry: Registry, version: Version, tmp_path: Path) -> None:
    outside = tmp_path / "outside.skops"
    skops.io.dump(LogisticRegression(), outside)
    (stored(version) / persistence.MODEL_FILE).unlink()
    (stored(version) / persistence.MODEL_FILE).symlink_to(outside)
    with pytest.raises(UserError, match="cannot be had"):
        registry.load(version)
    with pytest.raises(UserError, match="leads elsewhere"):
        manifest.create(stored(version))
    # A version whose files are said to be somewhere else altogether.
    elsewhere = registry.client.create_model_version("wine", f"file://{tmp_path}/files", version.run_id, version.tags)
    with pytest.raises(UserError, match="missing"):
        registry.load(registry.version(str(elsewhere.version)))


def test_a_store_whose_files_are_gone_says_so(registry: Registry, version: Version, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "mlruns")
    with pytest.raises(UserError, match="there are none"):
        registry.load(version)


@pytest.mark.usefixtures("version")
def test_a_version_without_a_seal_is_not_loaded(registry: Registry) -> None:
    registry.client.delete_model_version_tag("wine", "1", FILES)
    with pytest.raises(UserError, match=r"no readable tag model\.files"):
        registry.load(registry.version("1"))


def test_what_was_refused_leaves_nothing_behind(registry: Registry, version: Version, tmp_path: Path) -> None:
    (stored(version) / "added").write_text("1")
    folder = tmp_path / "fetched"
    folder.mkdir()
    with pytest.raises(UserError):
        registry.fetch(version, folder)
    assert list(folder.iterdir()) == []


def test_a_model_that_was_not_stored_as_it_was_is_not_sealed(registry: Registry, version: Version) -> None:
    golden = stored(version) / manifest.EXTRA_FOLDER / manifest.GOLDEN_ROWS_FILE
    golden.write_text(golden.read_text().replace("0.", "0.1", 40))
    with pytest.raises(UserError, match="golden rows otherwise"):
        registry.seal(version.source.removeprefix("models:/"))


@pytest.mark.usefixtures("version")
def test_a_wrong_alias_is_told_with_those_there_are(registry: Registry) -> None:
    registry.client.set_registered_model_alias("wine", "champion", "1")
    with pytest.raises(UserError, match=r"did you mean champion\?"):
        registry.version("champoin")


def test_a_killed_process_finishes_its_decision_in_the_next_one(registry: Registry, version: Version) -> None:
    audit = Audit(registry)
    audit.append("promoted", "champion", {"champion": [None, 1]}, ["because"], version.run_id)
    # Killed here, before the moves were made.
    assert registry.aliases() == {}
    (told,) = audit.faults()
    assert told.startswith("decision 1 was written down, but its process was stopped")
    audit.settle()
    assert audit.faults() == []
    assert registry.aliases() == {"champion": 1}
    registry.client.set_registered_model_alias("wine", "by-hand", "1")
    audit.settle()
    assert "alias by-hand names version 1" in "".join(audit.faults())


def test_a_decision_stands_though_its_run_or_its_version_is_gone(registry: Registry, version: Version) -> None:
    audit = Audit(registry)
    audit.append("promoted", "champion", {"champion": [None, 9]}, [], version.run_id)
    audit.append("rolled back", "champion", {"champion": [9, 1]}, [], "0" * 32)
    audit.settle()
    assert registry.aliases() == {"champion": 1}
    assert audit.faults() == []


def test_an_altered_decision_is_found(registry: Registry, version: Version) -> None:
    audit = Audit(registry)
    for reason in ("first", "second", "third"):
        audit.append("refused", "champion", {}, [reason], version.run_id)
    audit.settle()
    assert audit.faults() == []
    key = f"{PREFIX}000002"
    text = registry.client.get_registered_model("wine").tags[key]
    registry.client.set_registered_model_tag("wine", key, text.replace("second", "decent"))
    assert "decision 3 does not follow" in "".join(audit.faults())
    log = mlflow.artifacts.load_text(f"runs:/{version.run_id}/decisions.jsonl")
    assert [json.loads(line)["why"] for line in log.splitlines()] == [["first"], ["second"], ["third"]]


def test_no_decision_is_written_over_where_another_one_was_taken_out(registry: Registry, version: Version) -> None:
    audit = Audit(registry)
    for reason in ("first", "second", "third"):
        audit.append("refused", "champion", {}, [reason], version.run_id)
    audit.settle()
    # One in the middle, and the last one.
    for number in (2, 3):
        registry.client.delete_registered_model_tag("wine", f"{PREFIX}{number:06}")
        audit.append("promoted", "champion", {"champion": [None, 1]}, [f"without {number}"], version.run_id)
        audit.settle()
    told = [(entry.number, *entry.why) for entry in audit.decisions()]
    assert told == [(1, "first"), (4, "without 2"), (5, "without 3")]
    assert registry.aliases() == {"champion": 1}
    assert audit.faults() == ["decision 2 was taken out", "decision 3 was taken out"]
    registry.client.delete_registered_model_tag("wine", f"{PREFIX}000005")
    assert "decision 5 was taken out" in audit.faults()


def test_a_decision_that_cannot_be_read_is_named(registry: Registry, version: Version) -> None:
    audit = Audit(registry)
    for text in ("{", '{"number": 1}'):
        entry = audit.append("refused", "champion", {}, [], version.run_id)
        audit.settle()
        registry.client.set_registered_model_tag("wine", f"{PREFIX}{entry.number:06}", text)
        with pytest.raises(UserError, match=f"decision {entry.number} of wine cannot be read"):
            audit.decisions()
        registry.client.delete_registered_model_tag("wine", f"{PREFIX}{entry.number:06}")


def test_whoever_has_no_name_is_told_by_number(
    registry: Registry, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)
    assert Audit(registry).append("refused", "champion", {}, [], version.run_id).who.startswith("4242424@")


DECIDE = """
import sys
from wineexp.tracking.history import Audit
from wineexp.tracking.registry import Registry
registry = Registry(sys.argv[1], "wine")
for number in range(5):
    with registry.alone():
        audit = Audit(registry)
        audit.settle()
        audit.append("refused", "champion", {}, [f"{sys.argv[3]}.{number}"], sys.argv[2])
        audit.settle()
"""

HOLD = """
import sys, time
from wineexp.tracking.registry import Registry
with Registry(sys.argv[1], "wine").alone():
    print("held", flush=True)
    time.sleep(600)
"""


DAWDLE = """
import sys, time
from wineexp.tracking.registry import Registry
with Registry(sys.argv[1], "wine").alone():
    print("held", flush=True)
    time.sleep(2)
    print("decided", flush=True)
print("undisturbed", flush=True)
"""


def python(code: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment(folder),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_decisions_of_several_processes_at_once_are_one_story(
    registry: Registry, version: Version, tmp_path: Path
) -> None:
    deciders = [python(DECIDE, tmp_path, registry.uri, version.run_id, str(number)) for number in range(3)]
    for decider in deciders:
        decider.communicate(timeout=120)
    assert [decider.returncode for decider in deciders] == [0, 0, 0]
    audit = Audit(registry)
    assert sorted(entry.why[0] for entry in audit.decisions()) == [f"{i}.{j}" for i in range(3) for j in range(5)]
    assert audit.faults() == []


def test_ctrl_c_waits_for_the_end_of_a_decision(registry: Registry, tmp_path: Path) -> None:
    decider = python(DAWDLE, tmp_path, registry.uri)
    assert decider.stdout is not None
    decider.stdout.readline()
    decider.send_signal(signal.SIGINT)
    told, _ = decider.communicate(timeout=60)
    assert told.split() == ["decided"]
    assert decider.returncode != 0
    assert registry.client.search_registered_models("name = 'wine.lock'") == []


def test_a_killed_holder_is_outlasted_and_a_living_one_is_not_disturbed(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries, "LEASE", 1.0)
    holder = python(HOLD, tmp_path, registry.uri)
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    began = time.monotonic()
    with registry.alone():
        assert time.monotonic() - began > 1
    with registry.alone():
        # At once: the lock was given back.
        pass
