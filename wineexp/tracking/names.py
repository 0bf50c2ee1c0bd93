"""Names under which runs, studies and versions are recorded in MLflow, spelled in one place."""

# Artifacts of a run.
CONFIG_FILE = "config.yaml"
DIFF_FILE = "git.diff"
PREDICTIONS_FILE = "predictions.parquet"
IMPORTANCE_FILE = "importance.csv"
COVERAGE_FILE = "coverage.csv"
# Every decision about a registered model, among the artifacts of the run that the last one is about.
DECISIONS_FILE = "decisions.jsonl"

# Tags of a run that say what it was made of. `Task.tags` writes those of the data, the split and the metric.
CONFIG_SHA256 = "config.sha256"
DATA_MD5 = "data.md5"
DATA_WEIGHT = "data.weight"
# Names of the pins of the data, joined by +.
DATA_DVC = "data.dvc"
SPLIT_SHA256 = "split.sha256"
SPLIT_TEST_TO_TRAIN = "split.test_to_train"
DECIDING_METRIC = "deciding_metric"
GIT_COMMIT = "git.commit"
GIT_DIRTY = "git.dirty"
GIT_DIFF_SHA256 = "git.diff.sha256"
# Of wineexp's own modules, where there is no git to name their commit.
CODE_SHA256 = "code.sha256"
LOCK_SHA256 = "lock.sha256"
# Begins the tag of each module of the user's own, whose value is the SHA-256 of its file; the folder of the copies.
MODULE_PREFIX = "module."
MODULES_FOLDER = "modules"
WINEEXP_VERSION = "wineexp.version"
PYTHON_VERSION = "python.version"
# JSON: the version of each library by its name.
LIBRARIES = "libraries"
MACHINE_PLATFORM = "machine.platform"
MACHINE_PROCESSOR = "machine.processor"
MACHINE_CORES = "machine.cores"
# Of a run that was trained on a CUDA card; see `wineexp.models.device.card_tags`.
CARD_TAGS = MACHINE_CARD, MACHINE_DRIVER, MACHINE_CUDA = ("machine.card", "machine.driver", "machine.cuda")
# Of a run that was trained on a Dask cluster: the number of workers, on which the order of its sums depends.
DASK_WORKERS = "dask.workers"
THREADS = "threads"

# The choice of conf/experiment/ that a run was started with.
NAMED_EXPERIMENT = "experiment"
# Of a promotion's run: the digest of the config of the model that the card compares with.
BASELINE_SHA256 = "baseline.sha256"
# Of a promotion's run: the id of the run that it promotes.
SOURCE_RUN_ID = "source.run_id"
# Of a run that was decided on, and of the one that it was promoted from: the kind of the last decision about it.
DECISION = "decision"
# The exception that ended a run.
ERROR = "error"

# Tags of a study's run and of its trials' runs.
STUDY = "study"
BEST_TRIAL = "best_trial"
# What its sampler knew from the start; see `hydra.sweeper.warm_start`.
TAKEN_OVER = "taken_over"
TRIAL = "trial"
TRIAL_STATE = "state"

# Tags of a registered version. JSON: the SHA-256 of each of its files by name; then one SHA-256 over all of them.
MODEL_FILES = "model.files"
MODEL_SHA256 = "model.sha256"
# Whether the model was compiled for serving, or why not.
MODEL_FORM = "model.form"

# A metric of a run: the size of the stored model.
MODEL_BYTES = "model/bytes"
# Of the mean of the deciding metric over the folds, as a metric `cv/...`.
STANDARD_ERROR = "standard_error"
