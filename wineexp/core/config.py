"""Typed frames of the primary configs, and the check that holds every `_target_` against its callable."""

import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from wineexp.core.errors import UserError, did_you_mean

# Groups whose choices say what an experiment is, in the order in which a title names them.
GROUPS = ("data", "target", "feature", "split", "model")

# Arguments that a library takes, yet does not name in its signature.
UNNAMED = {"lightgbm.LGBMClassifier": ["verbosity"]}


@dataclass
class Holdout:
    """Rows set aside: their share, the seed that deals all rows out into such shares, and which of these it is."""

    size: float = MISSING
    seed: int = MISSING
    fold: int = MISSING


@dataclass
class Tracking:
    """Where runs are recorded; no URI records nothing."""

    uri: str | None = MISSING


@dataclass
class Registry:
    """The registered model: versions of it, and aliases that point to them."""

    name: str = MISSING


@dataclass
class Train:
    """Frame of conf/train.yaml. The groups are open: their keys are their callables' arguments."""

    data: Any = MISSING
    target: Any = MISSING
    feature: Any = MISSING
    split: Any = MISSING
    model: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    seed: int = MISSING
    n_jobs: int = MISSING
    holdout: Holdout = field(default_factory=Holdout)


@dataclass
class Explore:
    """Frame of conf/explore.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    holdout: Holdout = field(default_factory=Holdout)


@dataclass
class Fetch:
    """Frame of conf/fetch.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    links: str | None = MISSING


@dataclass
class Prepare:
    """Frame of conf/prepare.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    feature: Any = MISSING
    holdout: Holdout = field(default_factory=Holdout)
    processed: str = MISSING


@dataclass
class Evaluate:
    """Frame of conf/evaluate.yaml."""

    target: Any = MISSING
    predictions: str = MISSING


@dataclass
class Promote:
    """Frame of conf/promote.yaml. One of the first six says what to do."""

    run: str | None = None
    study: str | None = None
    best_of: str | None = None
    rollback: bool = False
    history: bool = False
    export: str | None = None
    told: str | None = None
    alias: str = MISSING
    allow: list[str] = field(default_factory=list)
    reason: str | None = None
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)
    split: Any = MISSING
    baseline: Any = MISSING
    gate: Any = MISSING
    seed: int = MISSING
    n_jobs: int = MISSING


@dataclass
class Reproduce:
    """Frame of conf/reproduce.yaml."""

    run: str = MISSING
    strict: bool = MISSING
    checkout: bool = MISSING
    n_jobs: int | None = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    registry: Registry = field(default_factory=Registry)


@dataclass
class Compare:
    """Frame of conf/compare.yaml."""

    # A list, or one word.
    runs: Any = MISSING
    lineage: str | None = MISSING
    format: str = MISSING
    alpha: float = MISSING
    limit: int | None = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    registry: Registry = field(default_factory=Registry)


@dataclass
class Keys:
    """Names of the environment variables that hold the API keys; null asks for no key."""

    predictions: str | None = MISSING
    administration: str | None = MISSING


@dataclass
class Server:
    """What is served, at which address, and within which limits."""

    alias: str = MISSING
    host: str = MISSING
    port: int = MISSING
    workers: int = MISSING
    poll_interval_seconds: float = MISSING
    verifier_idle_timeout_seconds: float = MISSING
    cache_folder: str | None = MISSING
    export_folder: str | None = MISSING
    max_rows: int = MISSING
    max_body_bytes: int = MISSING
    max_concurrent_requests: int = MISSING
    request_timeout_seconds: int = MISSING
    shutdown_timeout_seconds: int = MISSING
    allowed_hosts: list[str] = MISSING
    allowed_origins: list[str] = MISSING
    keys: Keys = field(default_factory=Keys)


@dataclass
class Serve:
    """Frame of conf/serve.yaml."""

    serve: Server = field(default_factory=Server)
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)


def leaves(cfg: DictConfig) -> dict[str, Any]:
    """Every leaf of a config by its dotted key, as it is spelled on the command line."""
    found: dict[str, Any] = {}

    def walk(key: str, node: Any) -> None:
        if isinstance(node, DictConfig | ListConfig) and len(node):
            items = node.items() if isinstance(node, DictConfig) else enumerate(node)
            for child, value in items:
                walk(f"{key}.{child!s}" if key else str(child), value)
        else:
            found[key] = node

    walk("", cfg)
    return found


def digest(cfg: DictConfig) -> str:
    """SHA-256 of what a config says that can change a figure: not where it is recorded, nor how many work at it."""
    telling = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("tracking", "n_jobs")])
    return hashlib.sha256(
        json.dumps(OmegaConf.to_container(telling, resolve=True), sort_keys=True).encode()
    ).hexdigest()


def build(cfg: DictConfig) -> dict[str, Any]:
    """Instantiate every group of a config that has a `_target_`, after checking all of them.

    Returns
    -------
    dict of str to object
        By group; `data` is a callable without arguments, since loading takes its time.

    Raises
    ------
    UserError
        With every argument that is unknown, missing or of the wrong type.
    """
    if missing := [str(name) for name in cfg if OmegaConf.is_missing(cfg, name) or cfg[name] is None]:
        raise UserError(*(f"{name}: nothing is chosen; --help lists the choices of {name}=..." for name in missing))
    nodes = {str(name): node for name, node in cfg.items() if isinstance(node, DictConfig) and "_target_" in node}
    if faults := [fault for name, node in nodes.items() for fault in check(name, node)]:
        raise UserError(*faults)
    built, faults = {}, []
    for name, node in nodes.items():
        try:
            built[name] = instantiate(node, _convert_="all", _partial_=name == "data")
        except InstantiationException as error:
            cause = error.__cause__ or error
            faults += cause.faults if isinstance(cause, UserError) else [f"{name}: {' '.join(str(cause).split())}"]
    if faults:
        raise UserError(*faults)
    return built


def check(name: str, node: DictConfig) -> list[str]:
    """The faults of one node with a `_target_`, and of those nested in it, as sentences."""
    return list(_faults(name, OmegaConf.to_container(node, resolve=True)))


def _faults(name: str, node: Any) -> Iterator[str]:
    path = node["_target_"]
    package = str(path).partition(".")[0]
    if package.isidentifier() and importlib.util.find_spec(package) is None:
        yield f"{name}._target_={path}: there is no package {package} here; the optional ones: pip install '.[boost]'"
        return
    try:
        # Partial, so that nothing is called, yet Hydra's own refusals of dangerous targets hold.
        target = instantiate({"_target_": path, "_partial_": True}).func
    except Exception as error:
        yield f"{name}._target_={path}: {' '.join(str(error.__cause__ or error).split())}"
        return
    parameters = _parameters(target)
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    for key, value in given.items():
        if key in UNNAMED.get(path, []):
            continue
        if key not in parameters:
            yield f"{name}.{key}={value}: {path} has no such argument; {did_you_mean(key, parameters)}"
        elif isinstance(value, dict) and "_target_" in value:
            yield from _faults(f"{name}.{key}", value)
        elif isinstance(value, dict) and any(
            isinstance(child, dict) and "_target_" in child for child in value.values()
        ):
            # Several of them, each under a name of its own.
            for child, node in value.items():
                yield from _faults(f"{name}.{key}.{child}", node)
        elif fault := _misfit(target, key, value):
            yield f"{name}.{key}={value}: {fault}"
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in given and not node.get("_partial_"):
            yield f"{name}.{key} is missing: {path} needs it"


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """Named parameters of a callable; a class that hands `**kwargs` on has its bases' too."""
    if not inspect.isclass(target):
        signatures = [inspect.signature(target)]
    else:
        signatures = []
        for base in target.__mro__:
            if "__init__" in vars(base):
                signatures.append(inspect.signature(vars(base)["__init__"]))
                if not any(p.kind is p.VAR_KEYWORD for p in signatures[-1].parameters.values()):
                    break
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found: dict[str, inspect.Parameter] = {}
    for signature in signatures:
        found = {k: p for k, p in signature.parameters.items() if p.kind in named and k != "self"} | found
    return found


def _misfit(target: Any, key: str, value: Any) -> str | None:
    """Why a value cannot be an argument: by scikit-learn's own constraints, else by the annotation."""
    constraints = getattr(target, "_parameter_constraints", {})
    if key in constraints:
        from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

        try:
            validate_parameter_constraints({key: constraints[key]}, {key: value}, caller_name=target.__name__)
        except InvalidParameterError as error:
            return str(error)
        return None
    import typeguard

    try:
        annotation = _hints(target).get(key, Any)
        typeguard.check_type(value, annotation)
    except typeguard.TypeCheckError:
        wanted = inspect.formatannotation(annotation).replace("typing.", "")
        return f"{wanted} is wanted, but got {type(value).__name__}"
    return None


def _hints(target: Any) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    constructors = [
        vars(base)["__init__"] for base in reversed(getattr(target, "__mro__", ())) if "__init__" in vars(base)
    ]
    for source in constructors or [target]:
        try:
            hints |= get_type_hints(source)
        except NameError:
            # Annotations that exist for type checkers only say nothing at run time.
            continue
    return hints
