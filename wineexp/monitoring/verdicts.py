"""What the monitor and the live test last said of each version, stored beside the log, where a server reads it."""

import json
import os
import time
from pathlib import Path
from typing import Any

from wineexp.core.errors import UserError

# The file in a log's folder, which has by model and version, and by kind, what was said; the table in a log's database.
FILE, TABLE = "verdicts.json", "wineexp_verdicts"
# Kinds.
DRIFT, LIVE_TEST = "drift", "live_test"
# What the monitor says of each test that can raise the alarm.
ALARM_TESTS = ("with_labels", "without_labels", "unlike_training")

# A database is not asked again within this time, also where it did not answer.
DATABASE_INTERVAL_SECONDS = 10.0

# By address, model and version: when a database was asked, and what it said.
_asked: dict[tuple[str, str, int], tuple[float, dict[str, Any]]] = {}


def path_of(address: str) -> Path | None:
    """The file beside a log; None for a log in a database, which has no folder."""
    return None if "://" in address else Path(address) / FILE


def write(address: str, model: str, version: int, kind: str, said: dict[str, Any]) -> None:
    """Replace what was last said of a version.

    Raises
    ------
    UserError
        It cannot be written.
    """
    if (path := path_of(address)) is None:
        from wineexp.monitoring import database

        try:
            database.write_verdict(address, model, version, kind, json.dumps(said))
        except OSError as error:
            raise UserError(f"log: what was found cannot be written there for the server: {error}") from error
        return
    known = _read(path)
    known.setdefault(_key(model, version), {})[kind] = said
    scratch = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(known, indent=1), encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise UserError(f"log={address}: {FILE} cannot be written there ({error.strerror}), for the server") from error


def of_version(address: str, model: str, version: int) -> dict[str, Any]:
    """What was last said of a version, by kind; empty where nothing was, or it cannot be read."""
    if (path := path_of(address)) is not None:
        return _read(path).get(_key(model, version), {})
    asked, said = _asked.get((address, model, version), (0.0, {}))
    if not asked or time.monotonic() - asked > DATABASE_INTERVAL_SECONDS:
        from wineexp.monitoring import database_reader

        try:
            said = {kind: json.loads(text) for kind, text in database_reader.read_verdicts(address, model, version)}
        except OSError:
            said = {}
        _asked[address, model, version] = time.monotonic(), said
    return said


def alarm_since(address: str, model: str, version: int) -> str | None:
    """Since when, as far as the monitor knows, the version loses more; None where it last raised no alarm."""
    drift = of_version(address, model, version).get(DRIFT) or {}
    tests = [drift[name] for name in ALARM_TESTS if drift.get(name)]
    return min((test["since"] for test in tests if test["alarm"] and not test["overruled"]), default=None)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _key(model: str, version: int) -> str:
    return f"{model}/{version}"
