"""Where a run comes from: from the alias that serves it down to the bytes of its data."""

import json
from typing import Any

from wineexp.core.errors import UserError
from wineexp.data import pin
from wineexp.reports.text import date
from wineexp.tracking.names import MODEL_FILES, MODEL_SHA256, SOURCE_RUN_ID
from wineexp.tracking.registry import Registry
from wineexp.tracking.runs import Record, Runs

UNKNOWN = "not recorded"


def trace(word: str, runs: Runs) -> dict[str, Any]:
    """The chain behind a run id, an alias or a version, fit for JSON; what was not recorded is None.

    Parameters
    ----------
    word : str
    runs : Runs

    Returns
    -------
    dict
        `asked`, `alias`, `version`, `run`, `promoted_from`, `config`, `seed`, `split`, `code`, `lock`, `machine`,
        `data`.

    Raises
    ------
    UserError
        The word names nothing.
    """
    version = Registry(runs.uri, runs.registry).find(word)
    run = runs.get(word)
    source = _source(run, runs)
    tags = run.tags
    return {
        "asked": word,
        "registry": runs.registry,
        "store": runs.uri,
        "alias": word if version is not None and not word.isdecimal() else None,
        "version": None
        if version is None
        else {
            "number": version.number,
            "aliases": list(version.aliases),
            "model_sha256": version.tags.get(MODEL_SHA256),
            "files": version.files if MODEL_FILES in version.tags else None,
        },
        "run": _told(run),
        "promoted_from": _told(source) | {"config_sha256": source.tags.get("config.sha256"), "code": _code(source.tags)}
        if source
        else None,
        "config": {"sha256": tags.get("config.sha256"), "fault": _config_fault(run)},
        "seed": run.params.get("seed"),
        "split": {"sha256": tags.get("split.sha256"), "splitter": run.params.get("split")},
        "code": _code(tags),
        "lock": tags.get("lock.sha256"),
        "machine": {
            "python": tags.get("python.version"),
            "libraries": json.loads(tags.get("libraries", "{}")),
            **{name: tags.get(f"machine.{name}") for name in ("platform", "processor", "cores")},
            "threads": tags.get("threads"),
        },
        "data": _data(tags),
    }


def tree(origin: dict[str, Any]) -> str:
    """The chain that `trace` found as a tree, in plain lines."""
    version = origin["version"]
    chain = [f"alias {origin['alias']} of {origin['registry']}"] if origin["alias"] else []
    if version:
        files = f" over {len(version['files'])} files" if version["files"] else ""
        chain.append(f"version {version['number']}: model SHA-256 {version['model_sha256'] or UNKNOWN}{files}")
    chain.append(_line("run", origin["run"]))
    lines = [f"{'   ' * (depth - 1)}└─ {text}" if depth else text for depth, text in enumerate(chain)]
    return "\n".join([*lines, *_branches(_facts(origin), "   " * (len(chain) - 1))])


def _facts(origin: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What a run was made of: a line each, and the lines below it."""
    config, machine, source = origin["config"], origin["machine"], origin["promoted_from"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    fault = config["fault"] or "config.yaml of the run is the one that was recorded"
    before = []
    if source:
        below = [f"config SHA-256 {source['config_sha256'] or UNKNOWN}", _commit(source["code"])]
        before = [(_line("promoted from run", source), below)]
    return [
        *before,
        (f"config SHA-256 {config['sha256'] or UNKNOWN}, seed {origin['seed'] or UNKNOWN}", [fault]),
        (f"split {origin['split']['splitter'] or ''} SHA-256 {origin['split']['sha256'] or UNKNOWN}", []),
        (_commit(origin["code"]), []),
        (f"lock SHA-256 {origin['lock'] or UNKNOWN}", []),
        (
            f"Python {machine['python'] or UNKNOWN}; {libraries or 'libraries ' + UNKNOWN}",
            [
                f"{machine['platform'] or 'platform ' + UNKNOWN}; {machine['processor'] or 'processor ' + UNKNOWN}, "
                f"{machine['cores'] or '?'} cores, {machine['threads'] or '?'} thread a fit"
            ],
        ),
        *((f"data md5 {data['md5']}", _data_lines(data)) for data in origin["data"]),
    ]


def _data_lines(data: dict[str, Any]) -> list[str]:
    if data["pin"] is None:
        return [f"pin {UNKNOWN}"]
    state = data["fault"] or (
        "this tree still pins these bytes" if data["pinned_here"] else f"this tree now pins {data['md5_here']}"
    )
    return [f"pin {data['pin']}: {state}", f"from {data['source_url'] or 'a source that the pin does not name'}"]


def _commit(code: dict[str, Any]) -> str:
    state = {None: "", False: ", clean", True: ", changed"}[code["dirty"]]
    diff = f": git.diff of the run, SHA-256 {code['diff_sha256']}" if code["diff_sha256"] else ""
    return f"code commit {code['commit'] or UNKNOWN}{state}{diff}"


def _branches(facts: list[tuple[str, list[str]]], indent: str) -> list[str]:
    lines = []
    for number, (text, below) in enumerate(facts, 1):
        last = number == len(facts)
        lines.append(f"{indent}{'└─' if last else '├─'} {text}")
        lines += [f"{indent}{'   ' if last else '│  '}   {line}" for line in below]
    return lines


def _line(what: str, run: dict[str, Any]) -> str:
    by = f" by {run['by']}" if run["by"] else ""
    return f"{what} {run['id']} ({run['name']} of {run['experiment']}, {run['began']}{by})"


def _code(tags: dict[str, str]) -> dict[str, Any]:
    return {
        "commit": tags.get("git.commit"),
        "dirty": {"true": True, "false": False}.get(tags.get("git.dirty", "")),
        "diff_sha256": tags.get("git.diff.sha256"),
    }


def _told(run: Record) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "began": date(run.began),
        "by": run.tags.get("mlflow.user"),
    }


def _source(run: Record, runs: Runs) -> Record | None:
    name = run.tags.get(SOURCE_RUN_ID)
    if name is None or name == run.id:
        return None
    try:
        return runs.get(name)
    except UserError:
        # It may have been deleted since; its version stands.
        return None


def _config_fault(run: Record) -> str | None:
    try:
        run.config()
    except UserError as error:
        return str(error)
    return None


def _data(tags: dict[str, str]) -> list[dict[str, Any]]:
    """Each file's md5, its pin, and what that pin says in this tree."""
    sums, names = tags.get("data.md5", "").split("+"), tags.get("data.dvc", "").split("+")
    if sums == [""]:
        return []
    found = []
    for place, md5 in enumerate(sums):
        name = names[place] if place < len(names) and names[place] else None
        told: dict[str, Any] = {"md5": md5, "pin": name, "md5_here": None, "source_url": None, "fault": None}
        if name is not None:
            try:
                here = pin.read(name)
                told |= {"md5_here": here.md5, "source_url": here.source_url}
            except UserError as error:
                told["fault"] = str(error)
        found.append(told | {"pinned_here": told["md5_here"] == md5})
    return found
