"""A sweep from the command line."""

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.errors import CompactHydraException

from tests.sweep.conftest import NO_LOG, REPOSITORY, XY, Toy
from wineexp.sweep.sweep_syntax import quote
from wineexp.sweep.trial import current

COMPLETE = "COMPLETE"


def states(study):
    return [trial.state.name for trial in study.trials]


def test_trials_folders_and_best_file_agree(toy: Toy) -> None:
    toy.sweep(*XY, "hydra.sweeper.n_trials=8")
    study = toy.study()
    assert states(study) == [COMPLETE] * 8
    for trial in study.trials:
        config = yaml.safe_load((toy.folder / f"multirun/app/{trial.number}/.hydra/config.yaml").read_text())
        assert {key: config[key] for key in trial.params} == trial.params
        record = yaml.safe_load((toy.folder / f"multirun/app/{trial.number}/.hydra/hydra.yaml").read_text())
        assert record["hydra"]["job"]["num"] == trial.number
        assert record["hydra"]["overrides"]["task"] == [f"{key}={trial.params[key]}" for key in trial.params]
    assert study.trials[0].params == {"x": 1.0, "y": 1.0}, "the first trial has the config's values"

    toy.run("--config-dir", "multirun", "+app=best")
    last = toy.ran()[-1].split()
    assert [float(last[1]), float(last[2])] == list(study.best_params.values())


@pytest.mark.journey
def test_a_seed_repeats_a_sweep_and_another_does_not(toy: Toy) -> None:
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        toy.sweep(*XY, "hydra.sweeper.n_trials=13", f"hydra.sweeper.seed={seed}", f"hydra.sweeper.study_name={name}")
    params = [[trial.params for trial in toy.study(name).trials] for name in ("one", "two", "three")]
    assert params[0] == params[1]
    assert params[0] != params[2]


def test_the_command_line_wins_over_parameters_in_yaml(toy: Toy) -> None:
    config = toy.folder / "conf/app.yaml"
    config.write_text(config.read_text().replace("hydra:", "hydra:\n  sweeper: {params: {x: '1,2', y: '1,2'}}"))
    toy.sweep("y=7,8", "kind=fixed", "hydra/sweeper/sampler=grid")
    assert toy.ran() == ["0 1 7", "1 1 8", "2 2 7", "3 2 8"]


def test_a_models_own_space_comes_with_the_model(toy: Toy) -> None:
    toy.sweep("model=tree", "hydra.sweeper.n_trials=4")
    study = toy.study("tree")
    assert [set(trial.params) for trial in study.trials] == [{"model.depth", "model.leaf"}] * 4
    assert study.trials[0].params == {"model.depth": 3, "model.leaf": 0.5}


def test_one_study_over_several_models(toy: Toy) -> None:
    toy.sweep("model=tree,bush,stone", "hydra.sweeper.n_trials=12")
    study = toy.study("tree+bush+stone")
    parameters = {
        "tree": {"model.depth@tree", "model.leaf@tree"},
        "bush": {"model.depth@bush", "model.shape@bush"},
        "stone": set(),
    }
    assert [trial.params["model"] for trial in study.trials[:3]] == ["tree", "bush", "stone"], (
        "the configs' own values come first"
    )
    for trial in study.trials:
        assert set(trial.params) == {"model"} | parameters[trial.params["model"]]
        number = trial.user_attrs.get("duplicate_of", trial.number)
        file = toy.folder / f"multirun/tree+bush+stone/{number}/.hydra/overrides.yaml"
        overrides = dict(line.split("=") for line in yaml.safe_load(file.read_text()))
        assert overrides == {key.partition("@")[0]: str(value) for key, value in trial.params.items()}


def test_a_space_as_a_callable(toy: Toy) -> None:
    (toy.folder / "spaces.py").write_text(
        "def space(trial):\n"
        "    x = trial.suggest_int('x', 1, 3)\n"
        "    if x == 2:\n"
        "        trial.suggest_categorical('kind', ['3', 'a b'])\n"
        "    return {'y': x + 0.5}\n"
    )
    toy.sweep("hydra.sweeper.space=spaces.space", "hydra/sweeper/sampler=brute")
    assert {line.partition(" ")[2] for line in toy.ran()} == {"1 1.5", "2 2.5", "3 3.5"}
    kinds = [yaml.safe_load(file.read_text())["kind"] for file in toy.folder.glob("multirun/app/*/.hydra/config.yaml")]
    assert sorted(map(str, kinds)) == ["3", "None", "None", "a b"]
    assert 3 not in kinds, "a string became a number"


def test_a_space_that_sees_the_config(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(toy.folder)
    (toy.folder / "spaces_of_config.py").write_text(
        "def deeper(trial, config):\n"
        "    if config.x > 2:\n"
        "        return {'y': config.x + 10 * config.model.depth}\n"
        "    return {'y': 1}\n"
        "def changes(trial, config):\n"
        "    config.x = 5\n"
    )
    arguments = ("x=2,3", "model=tree,bush", "hydra.sweeper.search=null", "hydra/sweeper/sampler=brute")
    configs = toy.sweep_quickly(*arguments, "hydra.sweeper.space=spaces_of_config.deeper")
    assert sorted((config.model.depth, config.x, config.y) for config in configs) == [
        (2, 2, 1), (2, 3, 23), (3, 2, 1), (3, 3, 33),
    ]  # fmt: skip
    with pytest.raises(CompactHydraException, match=r"space=spaces_of_config.changes: ReadonlyConfigError"):
        toy.sweep_in_process(*arguments, "hydra.sweeper.space=spaces_of_config.changes")


def test_a_sampler_in_the_layout_of_optunahub_is_named_by_its_path(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    package = toy.folder / "package/samplers/corner"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .sampler import Corner\n__all__ = ['Corner']\n")
    (package / "sampler.py").write_text(
        "from optuna.samplers import RandomSampler\n"
        "class Corner(RandomSampler):\n"
        "    def __init__(self, high=True, seed=None):\n"
        "        super().__init__(seed)\n"
        "        self.high = high\n"
        "    def sample_independent(self, study, trial, name, dist):\n"
        "        return dist.high if self.high else super().sample_independent(study, trial, name, dist)\n"
    )
    (package.parent / "lacking.py").write_text("import a_package_of_this_sampler\n")
    monkeypatch.syspath_prepend(toy.folder / "package")
    target = "hydra.sweeper.sampler._target_=samplers."
    arguments = (*XY, "hydra.sweeper.n_trials=2", "hydra.sweeper.enqueue_defaults=false", f"{target}corner.Corner")
    assert {config.x for config in toy.sweep_quickly(*arguments)} == {5}
    chance = ("+hydra.sweeper.sampler.high=false", "hydra.sweeper.study_name=chance")
    assert len({config.x for config in toy.sweep_quickly(*arguments, *chance)}) == 2, "a seed for each trial"
    for name, words in (
        ("lacking.Sampler", "No module named 'a_package_of_this_sampler'"),
        ("corner.sampler", "'samplers.corner.sampler' is no class"),
    ):
        with pytest.raises(CompactHydraException, match=words):
            toy.sweep_in_process(*XY, f"{target}{name}")
    with pytest.raises(CompactHydraException, match=r"'collections.Counter' is no sampler"):
        toy.sweep_in_process(*XY, "hydra.sweeper.sampler._target_=collections.Counter")


def test_hydras_own_sweeper_can_be_chosen(toy: Toy) -> None:
    toy.sweep("hydra/sweeper=basic", "x=1,2", "y=3,4")
    assert [line.split()[1:] for line in toy.ran()] == [["1", "3"], ["1", "4"], ["2", "3"], ["2", "4"]]


def test_a_study_in_memory_leaves_no_journal(toy: Toy) -> None:
    toy.sweep(*XY, "hydra/sweeper/storage=memory", "hydra.sweep.dir=here", "hydra.sweeper.n_trials=3")
    assert sorted(path.name for path in (toy.folder / "here").iterdir() if path.name.isdigit()) == ["0", "1", "2"]
    assert (toy.folder / "here/best.yaml").exists()
    assert not list(toy.folder.rglob("journal.log"))


@pytest.mark.parametrize(
    "sampler",
    ["qmc", "cmaes", *(pytest.param(name, marks=pytest.mark.journey) for name in ("random", "nsga2", "nsga3"))],
)
def test_every_sampler_fills_its_budget(toy: Toy, sampler: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes", reason="the package cmaes is not installed")
    toy.sweep(*XY, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=6")
    study = toy.study()
    assert states(study) == [COMPLETE] * 6
    assert len({json.dumps(trial.params) for trial in study.trials}) == 6


# Two have what a shell, Hydra and OmegaConf treat apart.
@pytest.mark.parametrize(
    "name",
    [
        "my study",
        "it's",
        *(
            pytest.param(name, marks=pytest.mark.journey)
            for name in ("tree+bush", "größe", "v1=2", "a,b", "100%", "#1")
        ),
    ],
)
def test_the_printed_command_runs_the_best_trial_again(toy: Toy, name: str) -> None:
    (toy.folder / "own/other").mkdir(parents=True)
    (toy.folder / "own/other/mine.yaml").write_text("size: 77\ncolour: red\n")
    toy.run_in_process("-m", "--config-dir", "own", "x=5,2", "y=1", "+other=mine", "+model.key='a b'", "~other.colour",
                       f"hydra.sweeper.study_name={quote(name)}", "hydra.run.dir=again", *NO_LOG)  # fmt: skip
    (line,) = [
        line for line in (toy.folder / "multirun" / name / "best.yaml").read_text().splitlines() if "Run" in line
    ]
    python, program, *arguments = shlex.split(line.removeprefix("# Run it: "))
    assert (python, program) == ("python", "app.py")
    toy.run_in_process(*arguments)
    assert toy.ran()[-1] == "None 2 1"
    config = yaml.safe_load((toy.folder / "again/.hydra/config.yaml").read_text())
    assert config["other"] == {"size": 77}
    assert config["model"] == {"key": "a b"}


def test_a_key_that_the_config_lacks_can_vary(toy: Toy) -> None:
    configs = toy.sweep_quickly("model=tree", "+model.max_bin=64,256", "+model.new.deep=int(interval(64, 256))",
                                "+fixed=1", "hydra.sweeper.n_trials=6")  # fmt: skip
    assert {config.model.max_bin for config in configs} == {64, 256}
    assert all(64 <= config.model.new.deep <= 256 for config in configs)
    assert {config.fixed for config in configs} == {1}


def test_choices_of_any_kind_can_be_tried(toy: Toy) -> None:
    configs = toy.sweep_quickly("kind=[1,2],{a:1},null", "model=tree,null,deep/ok", "hydra.sweeper.search=null")
    kinds = [[1, 2], {"a": 1}, None]
    assert [config.kind for config in configs] == kinds * 3
    assert [config.get("model", {}).get("depth") for config in configs[::3]] == [3, None, 9]


@pytest.mark.journey
def test_experiments_that_choose_a_model_bring_its_space(toy: Toy) -> None:
    for name, model in (("one", "tree"), ("two", "bush")):
        file = toy.folder / f"conf/experiment/all/{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# @package _global_\ndefaults:\n  - override /model: {model}\n")
    config = toy.folder / "conf/app.yaml"
    config.write_text(config.read_text().replace("  - _self_\n", "  - _self_\n  - experiment: null\n"))
    toy.sweep_quickly("experiment=all/one,all/two,null", "kind=a,b", "hydra.sweeper.n_trials=12")
    study = toy.study("all_one+all_two+null")
    names = {trial.params["experiment"]: set(trial.params) - {"experiment", "kind"} for trial in study.trials}
    assert names == {
        "all/one": {"model.depth@all/one", "model.leaf@all/one"},
        "all/two": {"model.depth@all/two", "model.shape@all/two"},
        None: set(),
    }
    plain = toy.sweep_quickly("experiment=all/one,all/two", "hydra.sweeper.search=null", "hydra.sweeper.study_name=p")
    assert [config.model.depth for config in plain] == [3, 2]


@pytest.mark.journey
def test_a_star_reaches_the_choices_of_one_group(toy: Toy) -> None:
    assert [config.other.size for config in toy.sweep_quickly("+other=glob(*)")] == [1, 2]
    assert [config.model.depth for config in toy.sweep_quickly("model=glob(deep/*)")] == [9]


def test_a_group_that_is_not_among_the_defaults_can_be_added(toy: Toy) -> None:
    configs = toy.sweep_quickly("+other=one,two")
    assert [config.other.size for config in configs] == [1, 2]


def test_a_models_space_is_found_on_the_search_path_of_the_command_line(toy: Toy) -> None:
    for name, text in (("model/lda.yaml", "shrinkage: 0.1\n"), ("search/lda.yaml", "model.shrinkage: 0.1, 0.2\n")):
        file = toy.folder / "own" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    path = f"hydra.searchpath=[file://{REPOSITORY}/conf,file://{toy.folder}/own]"
    assert [config.model.shrinkage for config in toy.sweep_quickly(path, "model=lda")] == [0.1, 0.2]


def test_a_folder_that_yaml_states_is_the_studys(toy: Toy) -> None:
    config = toy.folder / "conf/app.yaml"
    config.write_text(config.read_text().replace("hydra:", "hydra:\n  sweep: {dir: 'own/${x}'}"))
    toy.sweep_quickly("y=1,2", "x=3")
    assert (toy.folder / "own/3/best.yaml").exists()
    assert not (toy.folder / "multirun").exists()


@pytest.mark.parametrize(
    ("storage", "file"),
    [("hydra/sweeper/storage=journal", "multirun/app/journal.log"), ("hydra.sweeper.storage=sqlite:///a.db", "a.db")],
)
def test_a_trial_can_have_its_folder_as_the_current_one(toy: Toy, storage: str, file: str) -> None:
    folders = []

    def task(config) -> float:
        folders.append(Path.cwd())
        current().set_user_attr("folder", str(Path.cwd()))
        return float(config.x)

    name = "${hydra.job.num}_${hydra.job.override_dirname}"
    arguments = ("x=0,2", "hydra.job.chdir=true", f"hydra.sweep.subdir={name}", storage,
                 "hydra.sweeper.refit_seed=y")  # fmt: skip
    toy.sweep_in_process(*arguments, task=task)
    home = toy.folder / "multirun/app"
    assert folders == [home / "0_x=0", home / "1_x=2", home / "winner-0", home / "default-0"]
    assert (toy.folder / file).exists()
    assert yaml.safe_load((home / "1_x=2/.hydra/config.yaml").read_text())["x"] == 2


def test_hydras_callbacks_hear_of_the_users_jobs_only(toy: Toy) -> None:
    (toy.folder / "listener.py").write_text(
        "from hydra.experimental.callback import Callback\n"
        "class Listener(Callback):\n"
        "    def on_job_start(self, config, task_function, **_):\n"
        "        print(config.hydra.job.num, config.x, config.y, file=open('jobs.txt', 'a'))\n"
    )
    toy.sweep("x=0,2", "+hydra.callbacks.l._target_=listener.Listener", "hydra.sweeper.refit_seed=y",
              "hydra.sweeper.seed=5")  # fmt: skip
    seed = toy.study().user_attrs["refit"]["seed"]
    jobs = ["0 0 1.0", "1 2 1.0", f"2 0 {seed}", f"3 1.0 {seed}"]
    assert (toy.folder / "jobs.txt").read_text().splitlines() == jobs


def test_two_objectives_leave_a_pareto_front(toy: Toy) -> None:
    toy.sweep(*XY, "objectives=2", "hydra.sweeper.directions=[minimize,minimize]", "hydra.sweeper.n_trials=12")
    front = yaml.safe_load((toy.folder / "multirun/app/pareto.yaml").read_text())
    results = yaml.safe_load((toy.folder / "multirun/app/optimization_results.yaml").read_text())
    assert [solution["values"] for solution in results["solutions"]] == [point["values"] for point in front]
    best = {trial.number: trial.values for trial in toy.study().best_trials}
    assert {point["trial"]: point["values"] for point in front} == best
    assert all(any(line.startswith("x=") for line in point["overrides"]) for point in front)


def test_a_trial_above_a_bound_is_not_the_best(toy: Toy) -> None:
    toy.sweep("x=0,1,2,3", "y=0", "hydra/sweeper/sampler=grid", "hydra.sweeper.direction=maximize",
              "+hydra.sweeper.constraints={cost: 1.5}")  # fmt: skip
    assert toy.study().best_params == {"x": 1}
    assert "Trial 1 " in (toy.folder / "multirun/app/best.yaml").read_text()


def test_a_pruned_trial_keeps_its_mean_and_is_not_the_best(toy: Toy) -> None:
    toy.sweep("x=0,1,2,3,4,5", "folds=5", "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=wilcoxon",
              "hydra.sweeper.pruner.p_threshold=0.3")  # fmt: skip
    pruned = [trial for trial in toy.study().trials if trial.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        scores = list(trial.intermediate_values.values())
        assert len(scores) < 5
        assert trial.value == pytest.approx(sum(scores) / len(scores))
    assert toy.study().best_params == {"x": 0}


def test_plain_lines_where_there_is_no_terminal(toy: Toy) -> None:
    output = toy.sweep(*XY, "hydra.sweeper.n_trials=3")
    assert "trial 2 complete" in output
    assert "3/3, best" in output
    assert "\x1b[" not in output


@pytest.mark.journey
def test_a_terminal_shows_a_line_that_is_updated(toy: Toy) -> None:
    main, side = pty.openpty()
    arguments = [sys.executable, "app.py", "-m", *XY, "sleep=0.4", "hydra.sweeper.n_trials=4"]
    process = subprocess.Popen(arguments, cwd=toy.folder, env={**toy.environment, "COLUMNS": "120"}, stdout=side,
                               stderr=side)  # fmt: skip
    os.close(side)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    assert process.wait(60) == 0
    assert b"00:00:01" in shown
    assert b"best" in shown
