"""What the monitor and the live test last said of each version, stored beside the log, where a server reads it."""

import json
import os
from pathlib import Path
from typing import Any

from wineexp.core.errors import UserError

# The file in a log's folder: by model and version, by kind, what was said.
FILE = "verdicts.json"
# Kinds.
DRIFT, LIVE_TEST = "drift", "live_test"


def path_of(address: str) -> Path | None:
    """The file beside a log; None for a log in a database, which has no folder."""
    return None if "://" in address else Path(address) / FILE


def write(address: str, model: str, version: int, kind: str, said: dict[str, Any]) -> None:
    """Replace what was last said of a version; nothing is written for a log in a database.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    if (path := path_of(address)) is None:
        return
    known = read(address)
    known.setdefault(_key(model, version), {})[kind] = said
    scratch = path.with_name(f".{FILE}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(known, indent=1), encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        raise UserError(f"log={address}: {FILE} cannot be written there ({error.strerror}), for the server") from error


def read(address: str) -> dict[str, dict[str, Any]]:
    """All that was last said, by `model/version` and kind; empty where nothing was, or it cannot be read."""
    path = path_of(address)
    try:
        known = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def of_version(address: str, model: str, version: int) -> dict[str, Any]:
    """What was last said of a version, by kind."""
    return read(address).get(_key(model, version), {})


def _key(model: str, version: int) -> str:
    return f"{model}/{version}"
