#!/bin/bash
# A job array of workers that join a sweep's study: sbatch --array=0-15 deploy/slurm/sweep.sh cultivar-cultivar-xgb
# Begin the study first, from anywhere that reaches the database:
# python -m wineexp.train -m model=xgb hydra.sweeper.n_trials=200 hydra.sweeper.wait=false hydra.sweeper.n_workers=0 ...
#SBATCH --job-name=wineexp-sweep
#SBATCH --cpus-per-task=2
# A worker whose time is over closes its trial, which the others run again.
#SBATCH --time=24:00:00

# The variables WINEEXP_STUDY_STORAGE and MLFLOW_TRACKING_URI, and the PATH, are those of the shell that called sbatch.
# By exec, Slurm's signals reach the worker itself.
exec python -m wineexp.worker study="${1:?name the study}" "overrides=['n_jobs=${SLURM_CPUS_PER_TASK:-1}']"
