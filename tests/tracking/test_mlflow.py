"""What `tracking/_mlflow.py` relies on of MLflow beyond its public API."""

import logging
import warnings
from contextlib import nullcontext

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.utils import environment

from tests.conftest import free_port
from tests.tracking.conftest import Stored
from wineexp.core.errors import UnavailableError, UserError
from wineexp.tracking import _mlflow
from wineexp.tracking.registry import Registry
from wineexp.tracking.run import TYPE_ROWS, typical_rows
from wineexp.tracking.store import store_errors


def test_error_codes_tell_missing_taken_and_invalid_names_apart(registry: Registry) -> None:
    client = registry.client
    with pytest.raises(MlflowException) as missing:
        client.get_registered_model("nothing of this name")
    with pytest.raises(MlflowException) as taken:
        client.create_registered_model(registry.name)
    with pytest.raises(MlflowException) as alias:
        client.get_model_version_by_alias(registry.name, "no-such-alias")
    tests = (_mlflow.is_missing, _mlflow.already_exists, _mlflow.is_invalid)
    assert [[test(error.value) for test in tests] for error in (missing, taken, alias)] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_a_run_that_a_client_makes_gets_the_user_the_note_and_the_parent(stored: Stored) -> None:
    client = stored.registry.client
    tags = _mlflow.resolve_tags({_mlflow.PARENT_RUN_ID: stored.version.run_id, _mlflow.NOTE: "A note."})
    run = client.create_run("0", tags=tags)
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type"} <= run.data.tags.keys()
    assert mlflow.get_parent_run(run.info.run_id).info.run_id == stored.version.run_id
    assert run.data.tags["mlflow.note.content"] == "A note."


def test_the_model_of_a_run_is_found(stored: Stored) -> None:
    client = stored.registry.client
    assert _mlflow.stored_model_id(client.get_run(stored.version.run_id)) == stored.version.source.split("/")[1]
    assert _mlflow.stored_model_id(client.create_run("0")) is None


def test_a_batch_of_the_largest_size_is_taken(stored: Stored) -> None:
    client = stored.registry.client
    run = client.create_run("0")
    params = [Param(f"p{number}", "1") for number in range(_mlflow.MAX_PARAMS_TAGS_PER_BATCH)]
    client.log_batch(run.info.run_id, params=params)
    assert len(client.get_run(run.info.run_id).data.params) == len(params) >= 100


def test_the_warning_about_integer_columns_is_ignored() -> None:
    frame = pd.DataFrame({"rows": [1, 2]})
    with pytest.warns(UserWarning, match="integer column"):
        infer_signature(frame)
    with warnings.catch_warnings(record=True) as caught, _mlflow.ignore_harmless_hints():
        infer_signature(frame)
    assert caught == []


def test_requirements_are_not_held_against_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr("mlflow.utils.requirements_utils._check_requirement_satisfied", looked_at.append)
    for context, expected in ((nullcontext(), ["mlflow==3"]), (_mlflow.without_environment_check(), [])):
        looked_at.clear()
        with context:
            environment._process_pip_requirements([], ["mlflow==3"])
        assert looked_at == expected


def test_the_logger_of_the_database_store_is_silenced() -> None:
    import mlflow.store.db.utils as module

    assert module._logger.name == "mlflow.store.db.utils"
    assert not logging.getLogger(module._logger.name).isEnabledFor(logging.ERROR)


def test_typical_rows_show_what_all_rows_show_of_the_columns() -> None:
    n_rows = TYPE_ROWS + 500
    words = ["a", "b"] * (n_rows // 2)
    frame = pd.DataFrame({"count": np.arange(n_rows), "share": np.linspace(0, 1, n_rows), "word": words})
    frame.loc[n_rows - 1, "share"] = np.nan
    frame.loc[n_rows - 2, "word"] = None
    typical = typical_rows(frame)
    assert len(typical) == TYPE_ROWS + 2
    with _mlflow.ignore_harmless_hints():
        assert infer_signature(typical) == infer_signature(frame)


def test_a_server_that_does_not_answer_is_told_apart_from_a_refusal(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UnavailableError), store_errors():
        mlflow.MlflowClient(f"http://127.0.0.1:{free_port()}").get_run("0" * 32)
    with pytest.raises(UserError) as refused, store_errors():
        registry.client.get_run("0" * 32)
    assert not isinstance(refused.value, UnavailableError)
