"""Make a table of one's own a data set: `python -m wineexp.add file=churn.csv target=churned`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from wineexp.core.config import Add
from wineexp.core.errors import UserError
from wineexp.core.paths import CONF
from wineexp.core.program import program

if TYPE_CHECKING:
    from wineexp.data.column_checks import Finding
    from wineexp.data.dataset import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AddResult:
    """The data set, what looks wrong with it, the files that were written, and the command that trains on it."""

    dataset: "Dataset"
    findings: "list[Finding]"
    files: list[Path]
    command: str


@program(Add)
def main(cfg: DictConfig) -> None:
    """Run from the command line."""
    run(cfg)


def run(cfg: DictConfig) -> AddResult:
    """Read the table, say what it holds and what looks wrong, pin its file and write its YAMLs; overwrite nothing."""
    from wineexp.workflows import addition

    faults = [
        f"{word}: nothing is given; {word}={example}"
        for key, word, example in (("file", "file", "TABLE.csv"), ("column", "target", "COLUMN"))
        if OmegaConf.is_missing(cfg, key)
    ]
    if faults:
        raise UserError(*faults)
    values: Any = OmegaConf.to_container(cfg, resolve=True)
    said = {key: value for key, value in values.items() if value is not None}
    folder = config_folder()
    with addition.removed_if_refused() as files:
        plan = addition.plan(said, folder, files)
        for line in addition.description(plan):
            log.info("%s", line)
        addition.carry_out(plan, files)
    log.info("Written: %s", ", ".join(map(addition.shown, files)))
    # An option comes first, since none may stand between overrides, of which a user will add some.
    option = "" if folder in (CONF, Path.cwd() / "conf") else f"--config-dir {addition.shown(folder)} "
    command = f"python -m wineexp.train {option}data={plan.name}"
    log.info("Train on it: %s", command)
    return AddResult(plan.dataset, plan.findings, files, command)


def config_folder() -> Path:
    """Where the YAMLs belong: the folder that `--config-dir` names, else `conf` in the working folder."""
    for source in HydraConfig.get().runtime.config_sources:
        if "command-line" in source.provider and source.schema == "file":
            return Path(source.path)
    return Path.cwd() / "conf"


if __name__ == "__main__":
    main()
