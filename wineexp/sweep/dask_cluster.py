"""Running Hydra's jobs on a Dask cluster: one of a scheduler that is given, or of processes on this machine."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from distributed import Client, KilledWorker, LocalCluster, wait
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from wineexp.core.addresses import VARIABLE
from wineexp.core.dask_workers import reach
from wineexp.core.errors import UserError
from wineexp.sweep.launching import WorkerLostError

# Environment variables of this process that jobs on other hosts need: credentials, and where runs are recorded.
HANDED_OVER = (VARIABLE, "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def launch(
    settings: Mapping[str, Any],
    context: HydraContext,
    config: DictConfig,
    task: TaskFunction,
    job_overrides: Sequence[Sequence[str]],
    first_number: int,
) -> list[JobReturn]:
    """Run the jobs of a multirun and wait for them.

    Parameters
    ----------
    settings : mapping
        `hydra.launcher`: see `wineexp.sweep.settings.DaskSettings`.
    context : HydraContext
    config : DictConfig
        The sweep's own.
    task : callable
    job_overrides : sequence of sequence of str
    first_number : int
        Of the first job.

    Raises
    ------
    UserError
        The scheduler cannot be reached, has no workers, or has workers with several threads.
    WorkerLostError
        Workers were lost again and again.
    """
    setup_globals()
    # It tells of every connection.
    logging.getLogger("distributed").setLevel(logging.WARNING)
    with _connected(settings, len(job_overrides)) as client:
        environment = {name: os.environ[name] for name in HANDED_OVER if name in os.environ}
        shared = (context, config, task, Singleton.get_state(), environment)
        # A job whose Dask worker is lost is run by another one: a sweep's worker then goes on with the study.
        futures = [
            client.submit(_run, shared, list(overrides), first_number + index, pure=False)
            for index, overrides in enumerate(job_overrides)
        ]
        try:
            wait(futures)
            results: list[JobReturn] = client.gather(futures)
        except KilledWorker as error:
            raise WorkerLostError(str(error)) from error
        except KeyboardInterrupt:
            # Those that run end by themselves: a sweep's workers read in the study that it is to stop.
            client.cancel([future for future in futures if not future.done()])
            raise
    return results


@contextmanager
def _connected(settings: Mapping[str, Any], n_jobs: int) -> Iterator[Client]:
    """A client of the scheduler, or of a cluster that lives as long as the with block."""
    address, timeout = settings["scheduler"], settings["connect_timeout"]
    if address is None:
        n_processes = min(settings["n_jobs"] if settings["n_jobs"] > 0 else os.cpu_count() or 1, n_jobs)
        with (
            LocalCluster(n_workers=n_processes, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    with reach("hydra.launcher.scheduler", address, timeout) as client:
        several = [name for name, worker in client.scheduler_info(n_workers=-1)["workers"].items()
                   if worker["nthreads"] != 1]  # fmt: skip
        if several:
            raise UserError(
                f"hydra.launcher.scheduler={address}: {len(several)} of its workers have several threads, "
                f"{several[0]} for one, and a job has the working folder and the log of its process to itself: start "
                "them with --nthreads 1"
            )
        yield client


def _run(
    shared: tuple[HydraContext, DictConfig, TaskFunction, dict[Any, Any], dict[str, str]],
    overrides: list[str],
    number: int,
) -> JobReturn:
    """Run one job, in the process of a Dask worker."""
    context, config, task, singletons, environment = shared
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    setup_globals()
    Singleton.set_state(singletons)
    job_config = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job_config):
        job_config.hydra.job.id, job_config.hydra.job.num = f"{job_config.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(job_config)
    try:
        return run_job(
            task_function=task,
            config=job_config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=context,
        )
    except KeyboardInterrupt as error:
        # It would end the process, which is Dask's.
        raise RuntimeError("the job was interrupted") from error
