"""Hydra's schema of `hydra.sweeper`. Every start of a program imports it, so that it imports no library."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TerminatorSettings:
    """The keys of `hydra.sweeper.terminator`, which ends a study before its budget is spent."""

    # After so many trials in a row that are no better than what was best before them; null never does.
    patience: int | None = None
    # By how much more than this a value has to be better.
    min_delta: float = 0.0


@dataclass
class Settings:
    """The keys of `hydra.sweeper`; `hydra/sweeper/{sampler,pruner,storage}` are config groups below it."""

    defaults: list[Any] = field(
        default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": "none"}, {"storage": "journal"}]
    )
    _target_: str = "hydra_plugins.wineexp_sweeper.OptunaSweeper"
    # The nodes below are instantiated where trials run, not where Hydra instantiates the sweeper.
    _recursive_: bool = False
    _convert_: str = "all"

    # The study. A study with the same name in the same storage is resumed. By default its name is made of the choices
    # of the config groups in name_from.
    study_name: str | None = None
    name_from: list[str] = field(default_factory=lambda: ["experiment", "data", "target", "model"])
    # The folder that holds a folder for each trial; by default hydra.sweep.dir, if that is stated anywhere, and else
    # multirun/<study name>.
    folder: str | None = None
    direction: str = "minimize"
    # For several objectives: a direction for each, in the order in which the task returns their values.
    directions: list[str] | None = None
    # Choose them by hydra/sweeper/{sampler,pruner,storage}=name. The storage can also be a database's URL.
    sampler: Any = None
    pruner: Any = None
    storage: Any = None
    seed: int = 0

    # The space. params: override key -> Hydra's sweep syntax. search: config group -> the config group whose files hold
    # the parameters of each of its choices.
    params: dict[str, Any] = field(default_factory=dict)
    search: dict[str, str] | None = field(default_factory=lambda: {"model": "search"})
    # The dotted path of a function that suggests what the syntax cannot express. It takes an Optuna trial, or that and
    # the config that the trial has so far, not to be changed; it may return a mapping with more overrides.
    space: str | None = None
    # The dotted path of a function that gives what is wrong with a config, a list of sentences: called before any trial
    # with the config of each choice and of each value that is tried.
    check: str | None = None
    # Whether a study may be resumed with another space, sampler, pruner or config than it was begun with.
    extend: bool = False
    # Keys of the config that change no trial's result, so that a study may always be resumed with other values.
    may_change: list[str] = field(default_factory=list)

    # The budget. n_trials counts the trials of the whole study. null means default_n_trials, or no limit if there is a
    # timeout or the sampler visits every point. A study ends earlier when every point of its space has had its trial.
    # timeout is in seconds of this call, and includes the refit: no trial starts that, taking as long as the longest so
    # far, would not leave time for it.
    n_trials: int | None = None
    default_n_trials: int = 50
    timeout: float | None = None
    n_workers: int = 1
    # Whether the command waits for the trials. If not, it returns when the workers have begun, and shows, given again,
    # how far the study is; n_workers=0 begins none, for workers that join by themselves: python -m wineexp.worker.
    wait: bool = True
    # Whether this process is one more worker of a study that another command has begun; wineexp.worker sets it.
    joins: bool = False
    # The number of trials that may fail by an error of the task; one more ends the sweep. null is no limit.
    max_failures: int | None = 10
    terminator: TerminatorSettings = field(default_factory=TerminatorSettings)
    # How many more times the parameters of a trial whose worker died are tried.
    retries: int = 1
    # For a study in a database's server, in seconds: a worker that has not shown for so long that it lives is lost, and
    # its trial is tried again; and for how long the server, or MLflow's, may be away before a worker gives up.
    lease: float = 30.0
    max_outage: float = 600.0
    # For a study in a file: whether running trials of other hosts are taken over, if such a host is gone.
    take_over: bool = False
    # Whether a trial that repeats an earlier trial's parameters takes over its results instead of running.
    dedupe: bool = True
    # Whether the first trials have the values that the config has without a sweep.
    enqueue_defaults: bool = True
    # Earlier studies whose trials the sampler knows from the start, one or a list: a name, if it is kept where this
    # study is, or {study: name, storage: address of a database or file of a journal}.
    warm_start: Any = None
    # Upper bounds on attributes that the task sets on its trial. A trial above a bound is never the best.
    constraints: dict[str, float] = field(default_factory=dict)

    # The refit: the key of the task's random seed, under which the best trial is run again at the end; null for none.
    refit_seed: str | None = None
    # Whether the values that the config has without a sweep are run under that seed too, beside the best trial's.
    refit_default: bool = True
    # The callbacks by name; see wineexp.sweep.callbacks.
    callbacks: dict[str, Any] = field(default_factory=dict)


@dataclass
class DaskSettings:
    """The keys of `hydra.launcher` for `hydra/launcher=dask`."""

    _target_: str = "hydra_plugins.wineexp_dask_launcher.DaskLauncher"
    # The address of a scheduler, tcp://host:8786; null starts a cluster of processes on this machine.
    scheduler: str | None = None
    # The processes of a cluster on this machine; -1 is as many as a sweep has workers, or as there are cores.
    n_jobs: int = -1
    # How long to wait for the scheduler, and for its first worker, in seconds.
    connect_timeout: float = 30.0
