"""A sweep from the command line."""

import json
import sys

import pytest
import yaml

from tests.sweep.conftest import XY, Toy

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
    assert study.trials[0].params == {"x": 1.0, "y": 1.0}, "the config's own values come first"

    toy.run("--config-dir", "multirun", "+app=best")
    last = toy.ran()[-1].split()
    assert [float(last[1]), float(last[2])] == list(study.best_params.values())


def test_a_seed_repeats_a_sweep_and_another_does_not(toy: Toy) -> None:
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        toy.sweep(*XY, "hydra.sweeper.n_trials=13", f"hydra.sweeper.seed={seed}", f"hydra.sweeper.study_name={name}")
    params = [[trial.params for trial in toy.study(name).trials] for name in ("one", "two", "three")]
    assert params[0] == params[1]
    assert params[0] != params[2]


def test_parameters_in_yaml_yield_to_the_command_line(toy: Toy) -> None:
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
    own = {
        "tree": {"model.depth@tree", "model.leaf@tree"},
        "bush": {"model.depth@bush", "model.shape@bush"},
        "stone": set(),
    }
    assert [trial.params["model"] for trial in study.trials[:3]] == ["tree", "bush", "stone"], "defaults first"
    for trial in study.trials:
        assert set(trial.params) == {"model"} | own[trial.params["model"]]
        number = trial.user_attrs.get("duplicate_of", trial.number)
        file = toy.folder / f"multirun/tree+bush+stone/{number}/.hydra/overrides.yaml"
        told = dict(line.split("=") for line in yaml.safe_load(file.read_text()))
        assert told == {key.partition("@")[0]: str(value) for key, value in trial.params.items()}


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
    assert 3 not in kinds, "a string stays a string"


def test_hydras_own_sweeper_is_still_there(toy: Toy) -> None:
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


@pytest.mark.journey
def test_timeout_ends_a_sweep_and_the_next_call_goes_on(toy: Toy) -> None:
    arguments = (*XY, "sleep=0.3", "hydra.sweeper.n_trials=100", "hydra.sweeper.timeout=1")
    toy.sweep(*arguments)
    first = len(toy.study().trials)
    assert 1 <= first <= 5
    toy.sweep(*arguments)
    assert first < len(toy.study().trials) <= 2 * first + 2


def test_a_trial_that_the_time_left_is_too_short_for_is_not_begun(toy: Toy) -> None:
    arguments = (*XY, "sleep=3", "hydra.sweeper.n_trials=9", "hydra.sweeper.timeout=9")
    toy.sweep(*arguments, "hydra.sweeper.refit_seed=kind")
    assert len(toy.study().trials) == 1, "a second one and the winner's run would take too long"
    toy.sweep(*arguments)
    assert len(toy.study().trials) >= 3, "without the winner's run there is time for it"


def test_a_repeated_parameter_set_is_not_run_again(toy: Toy) -> None:
    toy.sweep("x=1,2", "hydra.sweeper.n_trials=9", "hydra/sweeper/sampler=random")
    study = toy.study()
    assert states(study) == [COMPLETE] * 9
    assert len(toy.ran()) == 2
    for trial in study.trials:
        assert trial.value == trial.params["x"] ** 2 + 1


def test_two_objectives_leave_a_pareto_front(toy: Toy) -> None:
    toy.sweep(*XY, "objectives=2", "hydra.sweeper.directions=[minimize,minimize]", "hydra.sweeper.n_trials=12")
    front = yaml.safe_load((toy.folder / "multirun/app/pareto.yaml").read_text())
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


@pytest.mark.skipif(sys.platform != "linux", reason="needs script(1) of util-linux")
def test_a_live_line_in_a_terminal(toy: Toy) -> None:
    import pty
    import subprocess

    main, side = pty.openpty()
    arguments = [sys.executable, "app.py", "-m", *XY, "sleep=0.4", "hydra.sweeper.n_trials=4"]
    process = subprocess.Popen(arguments, cwd=toy.folder, env={**toy.environment, "COLUMNS": "120"}, stdout=side,
                               stderr=side)  # fmt: skip
    import os

    os.close(side)
    seen = b""
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    assert process.wait(60) == 0
    assert b"00:00:01" in seen
    assert b"best" in seen
