"""Modules of the user's own that a config names: they are neither in wineexp's commit nor in the lock file."""

import ast
import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wineexp.core.errors import UserError
from wineexp.core.paths import PACKAGE
from wineexp.evaluation.own_metric import is_own
from wineexp.tracking import names
from wineexp.tracking.recorded_run import RecordedRun

# Where Python's own modules are, and the folders that package managers install into.
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
INSTALLED = {"site-packages", "dist-packages"}


def own_modules(cfg: DictConfig) -> dict[str, Path]:
    """The file of each module of the user's own that a built config uses, by the module's name.

    These are the modules of its `_target_`s and of a metric of its target, their packages, and the own modules that
    their sources import.
    """
    found: dict[str, Path] = {}
    metric = str(OmegaConf.select(cfg, "target.metric"))
    named = [*_targets(OmegaConf.to_container(cfg, resolve=True)), *([metric] if is_own(metric) else [])]
    pending = [name for target in named for name in _prefixes(target)]
    while pending:
        name = pending.pop()
        path = _own_file(name)
        if path is None or name in found:
            continue
        found[name] = path
        pending += [prefix for imported in _imports(name, path) for prefix in _prefixes(imported)]
    return dict(sorted(found.items()))


def digests(modules: Mapping[str, Path]) -> dict[str, str]:
    """The tags of a run about the user's own modules: the SHA-256 of each file."""
    return {f"{names.MODULE_PREFIX}{name}": _sha256(path) for name, path in modules.items()}


def digests_here(recorded: Mapping[str, str]) -> dict[str, str]:
    """The tags that a run would have here for the modules in its recorded tags; a missing module has none."""
    return digests(files(recorded))


def files(tags: Mapping[str, str]) -> dict[str, Path]:
    """The file that each module in a run's tags has here; without those that are missing."""
    found = {name: _file(name) for name in (tag.removeprefix(names.MODULE_PREFIX) for tag in filter(is_tag, tags))}
    return {name: path for name, path in found.items() if path is not None}


def is_tag(tag: str) -> bool:
    """Whether a tag of a run is about a module of the user's own."""
    return tag.startswith(names.MODULE_PREFIX)


def artifact(name: str, *, is_package: bool) -> str:
    """The artifact that is a copy of a module, such that its folder can be put on PYTHONPATH."""
    return f"{names.MODULES_FOLDER}/{name.replace('.', '/')}{'/__init__' if is_package else ''}.py"


def restore(record: RecordedRun, folder: Path) -> Path:
    """Write the copies of the user's own modules that a run used below a folder; gives what to put on PYTHONPATH.

    Raises
    ------
    UserError
        A copy was deleted or altered.
    """
    faults = []
    for tag in filter(is_tag, record.tags):
        name = tag.removeprefix(names.MODULE_PREFIX)
        for path in (artifact(name, is_package=is_package) for is_package in (False, True)):
            content = record.read(path)
            if content is not None and hashlib.sha256(content).hexdigest() == record.tags[tag]:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
                break
        else:
            faults.append(f"run {record.id} used the module {name}, of which it has no copy that equals the tag {tag}")
    if faults:
        raise UserError(*faults)
    return folder / names.MODULES_FOLDER


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _prefixes(dotted: str) -> list[str]:
    """`a.b.C` is in the package `a` and the module `a.b`, if these are modules."""
    parts = dotted.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _own_file(name: str) -> Path | None:
    """The file of a module that came neither with Python, nor with an installed package, nor with wineexp."""
    top_level = name.partition(".")[0]
    # A look-up of a module within a package imports the package, which is done to the user's own ones alone.
    if name != top_level and _own_file(top_level) is None:
        return None
    path = _file(name)
    if path is None or path.suffix != ".py":
        return None
    is_of_others = INSTALLED & set(path.parts) or path.is_relative_to(STANDARD_LIBRARY) or path.is_relative_to(PACKAGE)
    return None if is_of_others else path


def _file(name: str) -> Path | None:
    """The file that a module has here; None where there is no such module, or it is no file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.has_location and spec.origin else None


def _imports(name: str, path: Path) -> Iterator[str]:
    """What a module's source imports, as dotted names of modules or of what is in them."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
