"""The history: decisions at once are one sequence, and one that was interrupted is carried out by the next."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from tests.conftest import environment, start_preloaded
from wineexp.core.errors import UserError
from wineexp.tracking.history import DECISION_PREFIX, History
from wineexp.tracking.names import DECISIONS_FILE, SOURCE_RUN_ID
from wineexp.tracking.registry import Registry


def test_a_decision_whose_process_was_killed_is_carried_out_by_the_next_one(registry: Registry, run_id: str) -> None:
    history = History(registry)
    history.append("promoted", "champion", {"champion": [None, 1]}, ["because"], run_id)
    # The process is killed here, before the alias is moved.
    assert registry.aliases() == {}
    (fault,) = history.faults()
    assert fault.startswith("decision 1 was written down, but its process was stopped")
    history.settle()
    assert history.faults() == []
    assert registry.aliases() == {"champion": 1}
    registry.client.set_registered_model_alias(registry.name, "by-hand", "1")
    history.settle()
    assert history.faults() == [
        "alias by-hand names version 1, but the last decision about it says nothing: it was moved by other means"
    ]


def test_a_decision_stands_though_its_run_or_its_version_is_gone(registry: Registry, run_id: str) -> None:
    history = History(registry)
    history.append("promoted", "champion", {"champion": [None, 9]}, [], run_id)
    history.append("rolled back", "champion", {"champion": [9, 1]}, [], "0" * 32)
    history.settle()
    assert registry.aliases() == {"champion": 1}
    assert history.faults() == []


def test_a_run_that_was_decided_on_has_a_copy_of_the_history(registry: Registry, run_id: str) -> None:
    history = History(registry)
    for reason in ("first", "second"):
        history.append("refused", "champion", {}, [reason], run_id)
    history.settle()
    copy = mlflow.artifacts.load_text(f"runs:/{run_id}/{DECISIONS_FILE}")
    assert [json.loads(line)["why"] for line in copy.splitlines()] == [["first"], ["second"]]
    assert registry.client.get_run(run_id).data.tags["decision"] == "refused"


def test_the_run_that_was_promoted_from_has_the_last_decision_about_it(registry: Registry, run_id: str) -> None:
    client = registry.client
    source = client.create_run(client.get_run(run_id).info.experiment_id).info.run_id
    promoted = client.create_run(client.get_run(run_id).info.experiment_id, tags={SOURCE_RUN_ID: source}).info.run_id
    history = History(registry)
    history.append("refused", "champion", {}, ["dirty"], source)
    history.append("promoted", "champion", {"champion": [None, 1]}, ["allowed"], promoted)
    history.settle()
    assert [client.get_run(run).data.tags["decision"] for run in (source, promoted)] == ["promoted", "promoted"]


def test_no_number_is_given_twice_where_a_decision_was_removed(registry: Registry, run_id: str) -> None:
    history = History(registry)
    for reason in ("first", "second", "third"):
        history.append("refused", "champion", {}, [reason], run_id)
    history.settle()
    # One in the middle, and the last one.
    for number in (2, 3):
        registry.client.delete_registered_model_tag(registry.name, f"{DECISION_PREFIX}{number:06}")
        history.append("promoted", "champion", {"champion": [None, 1]}, [f"without {number}"], run_id)
        history.settle()
    decisions = [(decision.number, *decision.why) for decision in history.decisions()]
    assert decisions == [(1, "first"), (4, "without 2"), (5, "without 3")]
    assert registry.aliases() == {"champion": 1}
    assert history.faults() == ["decision 2 was removed", "decision 3 was removed"]
    registry.client.delete_registered_model_tag(registry.name, f"{DECISION_PREFIX}000005")
    assert "decision 5 was removed" in history.faults()


@pytest.mark.parametrize("text", ["{", '{"number": 1}', "[]"], ids=["no-json", "no-decision", "list"])
def test_a_decision_that_cannot_be_read_is_named(registry: Registry, run_id: str, text: str) -> None:
    history = History(registry)
    history.append("refused", "champion", {}, [], run_id)
    history.settle()
    registry.client.set_registered_model_tag(registry.name, f"{DECISION_PREFIX}000001", text)
    with pytest.raises(UserError, match=r"decision 1 of .* cannot be read"):
        history.decisions()


def test_a_decision_with_further_keys_is_read(registry: Registry, run_id: str) -> None:
    history = History(registry)
    decision = history.append("refused", "champion", {}, ["reason"], run_id)
    tag = f"{DECISION_PREFIX}000001"
    text = registry.tags()[tag].removesuffix("}") + ', "before": "3f"}'
    registry.client.set_registered_model_tag(registry.name, tag, text)
    assert history.decisions() == [decision]


def test_a_user_without_a_name_is_recorded_by_number(
    registry: Registry, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)
    assert History(registry).append("refused", "champion", {}, [], run_id).who.startswith("4242424@")


def decide(registry: Registry, run_id: str, name: str) -> None:
    """Five decisions, one after the other."""
    for number in range(5):
        with registry.lock():
            history = History(registry)
            history.settle()
            history.append("refused", "champion", {}, [f"{name}.{number}"], run_id)
            history.settle()


def check_decisions(registry: Registry) -> None:
    history = History(registry)
    reasons = [decision.why[0] for decision in history.decisions()]
    assert sorted(reasons) == [f"{name}.{number}" for name in range(3) for number in range(5)]
    assert [decision.number for decision in history.decisions()] == list(range(1, 16))
    assert history.faults() == []


def test_decisions_of_several_threads_at_once_are_one_sequence(registry: Registry, run_id: str) -> None:
    # Living holders must not be taken over, however long they wait for a core.
    registries = [Registry(registry.uri, registry.name) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        tasks = [pool.submit(decide, each, run_id, str(number)) for number, each in enumerate(registries)]
    for task in tasks:
        task.result()
    check_decisions(registry)


DECIDE = """import sys
from tests.tracking.test_history import decide
from wineexp.tracking.registry import Registry
decide(Registry(sys.argv[1], sys.argv[2]), *sys.argv[3:])
"""


@pytest.mark.journey
def test_decisions_of_several_processes_at_once_are_one_sequence(
    registry: Registry, run_id: str, tmp_path: Path
) -> None:
    (tmp_path / "decide.py").write_text(DECIDE)
    variables = environment(tmp_path, MLFLOW_TRACKING_URI=registry.uri)
    deciders = [
        start_preloaded(["decide.py", registry.uri, registry.name, run_id, str(number)], tmp_path, variables)
        for number in range(3)
    ]
    assert [decider.wait(120).returncode for decider in deciders] == [0, 0, 0]
    check_decisions(registry)
