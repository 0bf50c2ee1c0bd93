"""Running one trial's job: what Hydra's `run_job` does, without copying Hydra's own config five times.

That config is much larger than a task's, and copying and writing it was most of a short trial's cost.
"""

from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, _flush_loggers, configure_log, env_override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

from wineexp.sweep.compose import attach, detach


def run_job(task: TaskFunction, config: DictConfig, context: HydraContext, number: int) -> JobReturn:
    """Run a task as job `number` of a sweep, in its own folder, with its own log and record.

    An exception of the task's is kept in the result; KeyboardInterrupt and its like pass through.
    """
    hydra = config.hydra
    with read_write(hydra), open_dict(hydra):
        hydra.job.id = hydra.job.num = number
    before = HydraConfig.instance().cfg
    shown = OmegaConf.create({})
    HydraConfig.instance().cfg = cast(HydraConf, shown)
    try:
        with ExitStack() as stack:
            attach(shown, hydra)
            hydra._set_parent(config)
            folder = Path(hydra.sweep.dir) / str(hydra.sweep.subdir)
            with read_write(hydra), open_dict(hydra):
                hydra.runtime.output_dir = str(folder.absolute())
            OmegaConf.set_readonly(hydra, True)
            task_config, _ = detach(config)
            result = JobReturn(cfg=task_config, hydra_cfg=shown, overrides=list(hydra.overrides.task))
            folder.mkdir(parents=True, exist_ok=True)
            if hydra.job.chdir:
                stack.enter_context(chdir(folder))
            result.working_dir = str(Path.cwd())
            configure_log(hydra.job_logging, hydra.verbose)
            if hydra.output_subdir is not None:
                _save(folder.absolute() / hydra.output_subdir, task_config, shown)
            stack.enter_context(env_override(hydra.job.env_set))
            context.callbacks.on_job_start(config=config, task_function=task)
            try:
                result.return_value = task(task_config)
                result.status = JobStatus.COMPLETED
            except Exception as error:
                result.return_value = error
                result.status = JobStatus.FAILED
        result.task_name = JobRuntime.instance().get("name")
        _flush_loggers()
        context.callbacks.on_job_end(config=config, job_return=result)
        return result
    finally:
        HydraConfig.instance().cfg = before


def _save(folder: Path, task_config: DictConfig, hydra_config: DictConfig) -> None:
    """Write the three files that Hydra leaves of a job."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, node in (
        ("config.yaml", task_config),
        ("hydra.yaml", hydra_config),
        ("overrides.yaml", hydra_config.hydra.overrides.task),
    ):
        (folder / name).write_text(to_yaml(node), encoding="utf-8")


class _Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """OmegaConf's representation, written by libyaml where it is there: in a tenth of the time."""


_Dumper.yaml_representers = get_omega_conf_dumper().yaml_representers


def to_yaml(node: Any) -> str:
    """What OmegaConf.to_yaml gives, unresolved."""
    container = OmegaConf.to_container(node, resolve=False, enum_to_str=True)
    text: str = yaml.dump(container, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=_Dumper)
    return text
