"""Structured config schemas: the keys and types of each program's primary config in conf/.

A group such as `model` is `Any` here, because its keys are the arguments of the callable that its `_target_` names;
`wineexp.core.instantiation` checks those.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from wineexp.core.addresses import without_credentials

# Config groups whose choices define an experiment, in the order in which a run's name and a report list them.
GROUPS = ("data", "target", "feature", "split", "model")


def by_kind(of_classes: Any, of_numbers: Any, *, _root_: DictConfig) -> Any:
    """The OmegaConf resolver `by_kind`: its first argument, or its second where the target is a number.

    `_target_: sklearn.ensemble.ExtraTrees${by_kind:Classifier,Regressor}` is a model for both kinds of targets.
    """
    return of_numbers if OmegaConf.select(_root_, "target.kind") == "regression" else of_classes


OmegaConf.register_new_resolver("by_kind", by_kind, replace=True)


@dataclass
class Holdout:
    """The rows that no tuning may see: one fold of a shuffled split of all rows.

    Attributes
    ----------
    size : float
        Share of the rows; the split has round(1 / size) folds.
    seed : int
        Seed of the shuffle.
    fold : int
        Which of the folds is held out, from 0.
    """

    size: float = MISSING
    seed: int = MISSING
    fold: int = MISSING


@dataclass
class EarlyStopping:
    """When boosting stops, by a part of the training rows that the trees are not grown on.

    Attributes
    ----------
    rounds : int or None
        After so many rounds without a better score; None grows as many trees as the model's arguments say.
    fraction : float
        Share of the training rows of each fit.
    """

    rounds: int | None = None
    fraction: float = MISSING


@dataclass
class Tracking:
    """The MLflow tracking store; without a URI no run is recorded."""

    uri: str | None = MISSING


@dataclass
class Registry:
    """The registered model whose versions are promoted and served."""

    name: str = MISSING


@dataclass
class Train:
    """Schema of conf/train.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    feature: Any = MISSING
    split: Any = MISSING
    model: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    seed: int = MISSING
    n_jobs: int = MISSING
    device: str = MISSING
    holdout: Holdout = field(default_factory=Holdout)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    trust: list[str] = field(default_factory=list)


@dataclass
class Explore:
    """Schema of conf/explore.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    holdout: Holdout = field(default_factory=Holdout)


@dataclass
class Fetch:
    """Schema of conf/fetch.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    links: str | None = MISSING


@dataclass
class Worker:
    """Schema of conf/worker.yaml."""

    study: str = MISSING
    storage: str = MISSING
    overrides: list[str] = field(default_factory=list)
    program: str | None = None
    max_outage: float = MISSING


@dataclass
class Prepare:
    """Schema of conf/prepare.yaml."""

    data: Any = MISSING
    target: Any = MISSING
    feature: Any = MISSING
    holdout: Holdout = field(default_factory=Holdout)
    processed: str = MISSING


@dataclass
class Evaluate:
    """Schema of conf/evaluate.yaml."""

    target: Any = MISSING
    predictions: str = MISSING


@dataclass
class Add:
    """Schema of conf/add.yaml. On the command line `column` is called `target`, which it becomes."""

    file: str = MISSING
    column: str = MISSING
    name: str | None = MISSING
    separator: str | None = MISSING
    decimal: str | None = MISSING
    encoding: str | None = MISSING
    missing: list[str] | None = MISSING
    drop: list[str] | None = MISSING
    id: str | None = MISSING
    group: str | None = MISSING
    time: str | None = MISSING
    fold: str | None = MISSING
    weight: str | None = MISSING
    noun: list[str] | None = MISSING


@dataclass
class Promote:
    """Schema of conf/promote.yaml. Exactly one of the first six keys is set, and selects the action."""

    run: str | None = None
    study: str | None = None
    best_of: str | None = None
    rollback: bool = False
    history: bool = False
    export: str | None = None
    note: str | None = None
    alias: str = MISSING
    against: str | None = MISSING
    log: str = MISSING
    allow: list[str] = field(default_factory=list)
    reason: str | None = None
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)
    split: Any = None
    baseline: Any = MISSING
    gate: Any = MISSING
    seed: int = MISSING
    repeats: int = MISSING
    n_jobs: int = MISSING
    trust: list[str] = field(default_factory=list)


@dataclass
class Reproduce:
    """Schema of conf/reproduce.yaml."""

    run: str = MISSING
    strict: bool = MISSING
    checkout: bool = MISSING
    n_jobs: int | None = MISSING
    device: str | None = MISSING
    scheduler: str | None = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    registry: Registry = field(default_factory=Registry)
    trust: list[str] = field(default_factory=list)


@dataclass
class Compare:
    """Schema of conf/compare.yaml."""

    # A list of runs, or one word that selects them.
    runs: Any = MISSING
    lineage: str | None = MISSING
    format: str = MISSING
    alpha: float = MISSING
    limit: int | None = MISSING
    tracking: Tracking = field(default_factory=Tracking)
    registry: Registry = field(default_factory=Registry)


@dataclass
class Monitor:
    """Schema of conf/monitor.yaml."""

    log: str = MISSING
    alias: str = MISSING
    alpha: float = MISSING
    tolerance: float = MISSING
    since: str | None = MISSING
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)


@dataclass
class Abtest:
    """Schema of conf/abtest.yaml."""

    log: str = MISSING
    alias: str = MISSING
    challenger: str = MISSING
    mode: str | None = MISSING
    share: float | None = MISSING
    level: float = MISSING
    sizes: list[float] = MISSING
    since: str | None = MISSING
    until: str | None = MISSING
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)


@dataclass
class Feedback:
    """Schema of conf/feedback.yaml."""

    file: str = MISSING
    log: str = MISSING
    joined: bool = MISSING


@dataclass
class Predict:
    """Schema of conf/predict.yaml."""

    input: str = MISSING
    output: str = MISSING
    alias: str = MISSING
    chunk_rows: int = MISSING
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)
    trust: list[str] = field(default_factory=list)


@dataclass
class Retrain:
    """Schema of conf/retrain.yaml."""

    alias: str = MISSING
    challenger: str = MISSING
    log: str = MISSING
    min_rows: int = MISSING
    sweep: bool = MISSING
    n_trials: int | None = MISSING
    since: str | None = MISSING
    until: str | None = MISSING
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)
    baseline: Any = MISSING
    gate: Any = MISSING
    seed: int = MISSING
    repeats: int = MISSING
    n_jobs: int = MISSING
    allow: list[str] = field(default_factory=list)
    reason: str | None = None
    trust: list[str] = field(default_factory=list)


@dataclass
class Keys:
    """Names of the environment variables that hold the API keys; null asks for no key."""

    predictions: str | None = MISSING
    administration: str | None = MISSING


# How a challenger is asked: beside the champion for the log alone, or in its place for a share of the requests.
SHADOW, SPLIT = CHALLENGER_MODES = ("shadow", "split")


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
    keep_alive_seconds: int = MISSING
    shutdown_timeout_seconds: int = MISSING
    log: str | None = MISSING
    log_rate: float = MISSING
    log_without: list[str] = MISSING
    log_max_days: float | None = MISSING
    log_max_bytes: int | None = MISSING
    challenger: str | None = MISSING
    challenger_mode: str = MISSING
    challenger_only_when_idle: bool = MISSING
    share: float = MISSING
    unit: str | None = MISSING
    otlp_endpoint: str | None = MISSING
    allowed_hosts: list[str] = MISSING
    allowed_origins: list[str] = MISSING
    keys: Keys = field(default_factory=Keys)


@dataclass
class Serve:
    """Schema of conf/serve.yaml."""

    serve: Server = field(default_factory=Server)
    registry: Registry = field(default_factory=Registry)
    tracking: Tracking = field(default_factory=Tracking)
    trust: list[str] = field(default_factory=list)


def flatten_config(cfg: DictConfig) -> dict[str, Any]:
    """Every value of a config by its dotted key, as it is spelled on the command line.

    An empty mapping or list counts as a value. What is said of a data set's columns is left out: there may be
    thousands, and they are of no use for comparing runs. Nor are types that are trusted.
    """
    flat: dict[str, Any] = {}

    def add(key: str, node: Any) -> None:
        if key in ("data.columns", "trust"):
            return
        if isinstance(node, DictConfig | ListConfig) and len(node):
            children = node.items() if isinstance(node, DictConfig) else enumerate(node)
            for child, value in children:
                add(f"{key}.{child!s}" if key else str(child), value)
        else:
            flat[key] = node

    add("", cfg)
    return flat


def config_sha256(cfg: DictConfig) -> str:
    """SHA-256 of what can change a score in a config: not `tracking`, `n_jobs`, `trust`, `data.scheduler` and words."""
    hashed = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in ("tracking", "n_jobs", "trust")])
    values: Any = OmegaConf.to_container(hashed, resolve=True)
    if values.get("device") == "cpu":
        # Configs of earlier versions do not say it.
        del values["device"]
    if isinstance(values.get("data"), dict):
        values["data"] = without_texts(values["data"])
    # Credentials are not recorded, and change no score.
    return hashlib.sha256(without_credentials(json.dumps(values, sort_keys=True)).encode()).hexdigest()


def without_texts(data: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's config without what changes no score: words for rows and columns, and where it is trained."""
    rest = {key: value for key, value in data.items() if key not in ("noun", "scheduler")}
    if isinstance(columns := rest.get("columns"), Mapping):
        rest["columns"] = {
            name: {key: value for key, value in said.items() if key not in ("unit", "meaning")}
            if isinstance(said, Mapping)
            else said
            for name, said in columns.items()
        }
    return rest
