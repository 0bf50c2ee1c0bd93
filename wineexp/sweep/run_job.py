"""Running a trial's job: what Hydra's `run_job` does, without copying Hydra's own config five times.

That config is much larger than a task's: copying and writing it takes most of a short trial's time.
"""

from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import cast

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, env_override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from wineexp.core.addresses import without_credentials
from wineexp.sweep._hydra import flush_loggers
from wineexp.sweep._omegaconf import HydraYaml, attach_hydra, detach_hydra, set_parent, to_yaml

# `Composer.record_overrides` and `assign_number` change what is below these keys.
_hydra_yaml = HydraYaml(changing=("job", "overrides", "runtime"))


def assign_number(config: DictConfig, number: int) -> Path:
    """Make a composed config that of job `number` of a sweep; gives the job's folder."""
    hydra_node = config.hydra
    with read_write(hydra_node), open_dict(hydra_node):
        hydra_node.job.id, hydra_node.job.num = str(number), number
    with _shown_to_tasks(config):
        folder = Path(hydra_node.sweep.dir, str(hydra_node.sweep.subdir)).absolute()
    with read_write(hydra_node), open_dict(hydra_node):
        hydra_node.runtime.output_dir = str(folder)
    return folder


def run_job(task: TaskFunction, config: DictConfig, context: HydraContext) -> JobReturn:
    """Run a task on a config that has a number, in the job's own folder, with its own log and records.

    An Exception that the task raises becomes the result; KeyboardInterrupt and SystemExit are passed on.
    """
    hydra_node = config.hydra
    with _shown_to_tasks(config) as hydra_config:
        with ExitStack() as stack:
            folder = Path(hydra_node.runtime.output_dir)
            OmegaConf.set_readonly(hydra_node, True)
            task_config, _ = detach_hydra(config)
            overrides = cast(list[str], OmegaConf.to_container(hydra_node.overrides.task, resolve=False))
            result = JobReturn(cfg=task_config, hydra_cfg=hydra_config, overrides=overrides)
            folder.mkdir(parents=True, exist_ok=True)
            if hydra_node.job.chdir:
                stack.enter_context(chdir(folder))
            result.working_dir = str(Path.cwd())
            configure_log(hydra_node.job_logging, hydra_node.verbose)
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
    for name, text in (
        ("config.yaml", to_yaml(task_config)),
        ("hydra.yaml", _hydra_yaml.text(hydra_config)),
        ("overrides.yaml", to_yaml(hydra_config.hydra.overrides.task)),
    ):
        (folder / name).write_text(without_credentials(text), encoding="utf-8")
