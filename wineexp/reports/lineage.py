"""The lineage of a run: from the alias that serves it down to the bytes of its data."""

import json
from itertools import zip_longest
from typing import Any

from wineexp.core.errors import UserError
from wineexp.data import pin
from wineexp.reports.text import timestamp
from wineexp.tracking import names
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Registry
from wineexp.tracking.runs import Runs
from wineexp.tracking.store import Access

UNKNOWN = "not recorded"
# What the tags `machine.` say; the last three of a run that was trained on a CUDA card.
MACHINE_TAGS = ("platform", "processor", "cores", "card", "driver", "cuda")


def lineage(name: str, runs: Runs) -> dict[str, Any]:
    """The lineage of a run, as values that JSON can hold; what was not recorded is None.

    Parameters
    ----------
    name : str
        A run id, or an alias or a version of the registered model.
    runs : Runs

    Returns
    -------
    dict
        `name`, `registry`, `store`, `alias`, `version`, `run`, `promoted_from`, `config`, `seed`, `split`,
        `code`, `lock`, `machine` and `data`.

    Raises
    ------
    UserError
        Nothing has this name.
    """
    version = Registry(runs.uri, runs.registry, access=Access.READ).find(name)
    run = runs.get(name)
    source = _source_run(run, runs)
    tags = run.tags
    return {
        "name": name,
        "registry": runs.registry,
        "store": runs.uri,
        "alias": name if version is not None and not name.isdecimal() else None,
        "version": None
        if version is None
        else {
            "number": version.number,
            "aliases": list(version.aliases),
            "model_sha256": version.tags.get(names.MODEL_SHA256),
            "files": version.files if names.MODEL_FILES in version.tags else None,
        },
        "run": _run(run),
        "promoted_from": _run(source)
        | {"config_sha256": source.tags.get(names.CONFIG_SHA256), "code": _code(source.tags)}
        if source
        else None,
        "config": {"sha256": tags.get(names.CONFIG_SHA256), "fault": _config_fault(run)},
        "seed": run.params.get("seed"),
        "split": {"sha256": tags.get(names.SPLIT_SHA256), "splitter": run.params.get("split")},
        "code": _code(tags),
        "lock": tags.get(names.LOCK_SHA256),
        "machine": {
            "python": tags.get(names.PYTHON_VERSION),
            "libraries": json.loads(tags.get(names.LIBRARIES, "{}")),
            **{name: tags.get(f"machine.{name}") for name in MACHINE_TAGS},
            "threads": tags.get(names.THREADS),
        },
        "data": _data(tags),
    }


def tree(origin: dict[str, Any]) -> str:
    """What `lineage` returned, as a tree of text lines."""
    version = origin["version"]
    chain = [f"alias {origin['alias']} of {origin['registry']}"] if origin["alias"] else []
    if version:
        files = f" over {len(version['files'])} files" if version["files"] else ""
        chain.append(f"version {version['number']}: model SHA-256 {version['model_sha256'] or UNKNOWN}{files}")
    chain.append(_run_line("run", origin["run"]))
    lines = [f"{'   ' * (depth - 1)}└─ {text}" if depth else text for depth, text in enumerate(chain)]
    return "\n".join([*lines, *_branches(_inputs(origin), "   " * (len(chain) - 1))])


def _inputs(origin: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What a run was made from: a line for each input, and the lines below it."""
    config, machine, source = origin["config"], origin["machine"], origin["promoted_from"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    fault = config["fault"] or "config.yaml of the run is the one that was recorded"
    source_branch = []
    if source:
        details = [f"config SHA-256 {source['config_sha256'] or UNKNOWN}", _commit(source["code"])]
        source_branch = [(_run_line("promoted from run", source), details)]
    return [
        *source_branch,
        (f"config SHA-256 {config['sha256'] or UNKNOWN}, seed {origin['seed'] or UNKNOWN}", [fault]),
        (f"split {origin['split']['splitter'] or ''} SHA-256 {origin['split']['sha256'] or UNKNOWN}", []),
        (_commit(origin["code"]), []),
        (f"lock SHA-256 {origin['lock'] or UNKNOWN}", []),
        (
            f"Python {machine['python'] or UNKNOWN}; {libraries or 'libraries ' + UNKNOWN}",
            [
                f"{machine['platform'] or 'platform ' + UNKNOWN}; {machine['processor'] or 'processor ' + UNKNOWN}, "
                f"{machine['cores'] or '?'} cores, {machine['threads'] or '?'} threads per fit",
                *(
                    [f"trained on {machine['card']}, driver {machine['driver']}, CUDA {machine['cuda']}"]
                    if machine["card"]
                    else []
                ),
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


def _branches(branches: list[tuple[str, list[str]]], indent: str) -> list[str]:
    lines = []
    for number, (text, details) in enumerate(branches, 1):
        last = number == len(branches)
        lines.append(f"{indent}{'└─' if last else '├─'} {text}")
        lines += [f"{indent}{'   ' if last else '│  '}   {detail}" for detail in details]
    return lines


def _run_line(label: str, run: dict[str, Any]) -> str:
    by = f" by {run['by']}" if run["by"] else ""
    return f"{label} {run['id']} ({run['name']} of {run['experiment']}, {run['began']}{by})"


def _code(tags: dict[str, str]) -> dict[str, Any]:
    return {
        "commit": tags.get(names.GIT_COMMIT),
        "dirty": {"true": True, "false": False}.get(tags.get(names.GIT_DIRTY, "")),
        "diff_sha256": tags.get(names.GIT_DIFF_SHA256),
    }


def _run(run: RecordedRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "began": timestamp(run.began),
        "by": run.tags.get("mlflow.user"),
    }


def _source_run(run: RecordedRun, runs: Runs) -> RecordedRun | None:
    """The run whose promotion trained this one; None for a run of no promotion, or if the other was deleted."""
    name = run.tags.get(names.SOURCE_RUN_ID)
    if name is None or name == run.id:
        return None
    try:
        return runs.get(name)
    except UserError:
        return None


def _config_fault(run: RecordedRun) -> str | None:
    try:
        run.config()
    except UserError as error:
        return str(error)
    return None


def _data(tags: dict[str, str]) -> list[dict[str, Any]]:
    """The md5 and the pin of each data file, and what that pin says in the current working tree."""
    md5s, pin_names = tags.get(names.DATA_MD5, "").split("+"), tags.get(names.DATA_DVC, "").split("+")
    if md5s == [""]:
        return []
    files = []
    for md5, name in zip_longest(md5s, pin_names[: len(md5s)]):
        file: dict[str, Any] = {"md5": md5, "pin": name or None, "md5_here": None, "source_url": None, "fault": None}
        if name:
            try:
                current = pin.read(name)
                file |= {"md5_here": current.md5, "source_url": current.source_url}
            except UserError as error:
                file["fault"] = str(error)
        files.append(file | {"pinned_here": file["md5_here"] == md5})
    return files
