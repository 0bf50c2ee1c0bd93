"""The rules of a promotion that need no training: committed code, the pinned data, the champion's target."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from wineexp.core.config import without_texts
from wineexp.data.external_table import DASK, EXTERNAL
from wineexp.data.task import Task
from wineexp.tracking import modules, names, provenance
from wineexp.tracking.recorded_run import RecordedRun
from wineexp.tracking.registry import Version
from wineexp.workflows.champion import feedback
from wineexp.workflows.gate import Check


@dataclass(frozen=True)
class Preconditions:
    """The rules, each checked.

    Attributes
    ----------
    checks : list of Check
    waived : list of str
        What did not hold, and was allowed by name.
    """

    checks: list[Check]
    waived: list[str]


def check_preconditions(
    source: RecordedRun, cfg: DictConfig, task: Task, allow: Collection[str], *, is_trained_anew: bool = False
) -> Preconditions:
    """Check that a run's code and data, and the code here, are those that a version can be traced back to.

    Parameters
    ----------
    source : RecordedRun
        The run that is to be promoted.
    cfg : DictConfig
        Its config, built.
    task : Task
        Its task, with the data that are pinned here.
    allow : collection of str
        Names of rules that are waived.
    is_trained_anew : bool
        Whether the run gave its config alone, and its tree and data do not matter.
    """
    checked = Preconditions([], [])

    def check(rule: str, passed: bool, message: str, remedy: str) -> None:
        allowed = rule in allow
        if not passed and allowed:
            checked.waived.append(f"{rule}: {message}; waived with allow=[{rule}]")
        checked.checks.append(
            Check(rule, passed or allowed, f"{message}; {remedy}, or waive the rule with allow=[{rule}]")
        )

    trees = [("this tree", provenance.git_tags(modules.own_modules(cfg).values()), "commit")]
    if not is_trained_anew:
        trees.insert(0, ("the run's tree", source.tags, "commit and train anew"))
    for tree, tags, remedy in trees:
        state = "had changes that were not committed" if names.GIT_COMMIT in tags else "is of no known commit"
        check("dirty", tags.get(names.GIT_DIRTY) == "false", f"{tree} {state}", remedy)
    if is_trained_anew:
        return checked
    recorded, pinned = source.tags.get(names.DATA_MD5), task.dataset.md5
    message = f"the run was made on data with md5 {recorded}, but {pinned} is pinned here"
    check("data", recorded == pinned, message, "train anew")
    return checked


def check_task(cfg: DictConfig, champion: Version, champion_cfg: DictConfig, alias: str) -> Check:
    """Whether a candidate predicts the same target on the same data as the champion."""
    differing = [key for key in ("data", "target") if _task_part(champion_cfg[key]) != _task_part(cfg[key])]
    known, found = feedback(champion_cfg), feedback(cfg)
    if "data" not in differing and known != found[: len(known)]:
        # The champion could not be tested on rows that it was not trained on.
        differing.append("feedback")
    message = (
        f"version {champion.number}, which {alias} names, has another task (other {' and '.join(differing)}); "
        "register this model under a name of its own with registry.name=..."
    )
    return Check("task", not differing, message)


def _task_part(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a group says of the task: not its texts, nor feedback, nor where and how a model learns from it."""
    part = {key: value for key, value in without_texts(node).items() if key not in ("transform", "feedback")}
    # Both split the rows alike.
    return part | {"engine": EXTERNAL} if part.get("engine") == DASK else part
