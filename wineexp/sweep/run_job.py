"""Running a trial's job: what Hydra's `run_job` does, without copying Hydra's own config five times.

That config is much larger than a task's: copying and writing it takes most of a short trial's time.
"""

from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import cast

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, env_override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from wineexp.core.addresses import without_credentials
from wineexp.sweep._hydra import flush_loggers
from wineexp.sweep._omegaconf import JobYaml, attach_hydra, detach_hydra, set_parent, set_value
from wineexp.sweep.job_log import JobLog

# `Composer.record_overrides` and `assign_number` change what is at these keys.
_job_yaml = JobYaml(
    ["hydra.job.id", "hydra.job.num", "hydra.job.override_dirname", "hydra.overrides.task", "hydra.runtime.output_dir"]
)

_job_log = JobLog()


def assign_number(config: DictConfig, number: int) -> Path:
    """Make a composed config that of job `number` of a sweep; gives the job's folder."""
    hydra_node = config.hydra
    set_value(hydra_node.job, "id", str(number))
    set_value(hydra_node.job, "num", number)
    with _shown_to_tasks(config):
        folder = Path(hydra_node.sweep.dir, str(hydra_node.sweep.subdir)).absolute()
    set_value(hydra_node.runtime, "output_dir", str(folder))
    return folder


def run_job(task: TaskFunction, config: DictConfig, context: HydraContext) -> JobReturn:
    """Run a task on a config that has a number, in the job's own folder, with its own log and records.

    An Exception that the task raises becomes the result; KeyboardInterrupt and SystemExit are passed on.
    """
    hydra_node = config.hydra
    with _shown_to_tasks(config) as hydra_config:
        with ExitStack() as stack:
            folder = Path(hydra_node.runtime.output_dir)
            if not OmegaConf.is_readonly(hydra_node):
                OmegaConf.set_readonly(hydra_node, True)
            task_config, _ = detach_hydra(config)
            overrides = cast(list[str], OmegaConf.to_container(hydra_node.overrides.task, resolve=False))
            result = JobReturn(cfg=task_config, hydra_cfg=hydra_config, overrides=overrides)
            folder.mkdir(parents=True, exist_ok=True)
            if hydra_node.job.chdir:
                stack.enter_context(chdir(folder))
            result.working_dir = str(Path.cwd())
            _job_log.configure(hydra_node.job_logging, hydra_node.verbose)
            if hydra_node.output_subdir is not None:
                _save_records(folder / hydra_node.output_subdir, task_config, hydra_config)
            stack.enter_context(env_override(hydra_node.job.env_set))
            context.callbacks.on_job_start(config=config, task_function=task)
            try:
                result.return_value = task(task_config)
                result.status = JobStatus.COMPLETED
            except Exception as error:
                result.return_value = error
                result.status = JobStatus.FAILED
        result.task_name = JobRuntime.instance().get("name")
        flush_loggers()
        context.callbacks.on_job_end(config=config, job_return=result)
        return result


@contextmanager
def _shown_to_tasks(config: DictConfig) -> Iterator[DictConfig]:
    """Let `HydraConfig.get()` show a config's `hydra` node, whose interpolations look in the whole config."""
    previous_config = HydraConfig.instance().cfg
    hydra_config = OmegaConf.create({})
    HydraConfig.instance().cfg = cast(HydraConf, hydra_config)
    try:
        attach_hydra(hydra_config, config.hydra)
        set_parent(config.hydra, config)
        yield hydra_config
    finally:
        HydraConfig.instance().cfg = previous_config


def _save_records(folder: Path, task_config: DictConfig, hydra_config: DictConfig) -> None:
    """Write the three files that Hydra leaves of a job."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("hydra.yaml", "config.yaml", "overrides.yaml")
    texts = _job_yaml.texts(hydra_config, task_config, hydra_config.hydra.overrides.task)
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(without_credentials(text), encoding="utf-8")
