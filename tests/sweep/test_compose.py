"""A config from the cache is the config that Hydra would compose."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from tests.sweep.conftest import Toy
from wineexp.sweep.compose import Composer

FIXED = ["kind=fixed", "hydra.sweep.dir='some where'", "+extra.deep=1"]

CASES = {
    "leaves": ([], ["x=2.5", "y=-1"]),
    "group and leaves": (["model=tree"], ["model.depth=7", "x=1e-05"]),
    "another group": (["model=bush"], ["model.shape=flat", "model.depth=1"]),
    "a list and a mapping": (["model=tree"], ["fails=[1,2]", "model={depth:5}"]),
    "an interpolation": (["model=tree"], ["kind=${model.depth}", "x=null"]),
    "an addition": (["model=tree"], ["+model.new=3", "x=1"]),
    "a forced addition": (["model=tree"], ["++model.depth=3", "++model.newer=a"]),
    "a deletion": (["model=tree"], ["~model.leaf", "x=1"]),
    "a string of digits": ([], ["kind='007'", "kind='a,b'"]),
}


@pytest.fixture
def loader(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Iterator[GlobalHydra]:
    monkeypatch.chdir(toy.folder)
    with initialize_config_dir(str(toy.folder / "conf"), version_base=None, job_name="app"):
        yield GlobalHydra.instance()
    HydraConfig.instance().cfg = None


def text(config) -> str:
    return OmegaConf.to_yaml(config, resolve=False)


@pytest.mark.parametrize("case", CASES)
def test_the_cached_config_is_hydras(loader: GlobalHydra, case: str) -> None:
    groups, leaves = CASES[case]
    hydra = loader.hydra
    master = hydra.compose_config("app", ["hydra.verbose=true", *FIXED], RunMode.MULTIRUN)
    composer = Composer(loader.config_loader(), master, FIXED)
    parse = OverridesParser.create().parse_overrides
    for name, (other_groups, other_leaves) in CASES.items():
        if name != case:
            composer.compose(parse(other_groups), parse(other_leaves))
    for _ in range(2):
        cached = composer.compose(parse(groups), parse(leaves))
        fresh = loader.config_loader().load_sweep_config(master, [*FIXED, *groups, *leaves])
        assert text(cached) == text(fresh)
        assert cached == fresh
        assert OmegaConf.is_struct(cached) == OmegaConf.is_struct(fresh)
        assert OmegaConf.get_type(cached, "hydra") is OmegaConf.get_type(fresh, "hydra")


def test_what_hydra_refuses_the_cache_refuses(loader: GlobalHydra) -> None:
    master = loader.hydra.compose_config("app", [], RunMode.MULTIRUN)
    composer = Composer(loader.config_loader(), master, [])
    parse = OverridesParser.create().parse_overrides
    for line in ("model.depth=1", "nothing=1", "~nothing"):
        with pytest.raises(Exception, match="Could not") as cached:
            composer.compose([], parse([line]))
        with pytest.raises(type(cached.value)):
            loader.config_loader().load_sweep_config(master, [line])


def test_a_trial_leaves_no_trace_in_the_next(loader: GlobalHydra) -> None:
    master = loader.hydra.compose_config("app", [], RunMode.MULTIRUN)
    composer = Composer(loader.config_loader(), master, [])
    parse = OverridesParser.create().parse_overrides
    first = composer.compose([], parse(["x=7"]))
    first.y = 99
    second = composer.compose([], parse(["kind=b"]))
    assert (second.x, second.y, second.kind) == (1.0, 1.0, "b")
    assert list(second.hydra.overrides.task) == ["kind=b"]


def test_the_plugin_imports_nothing_heavy(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from hydra.core.plugins import Plugins; Plugins.instance()\n"
        "import hydra_plugins.wineexp_sweeper\n"
        "print([name for name in ('optuna', 'pandas', 'numpy', 'sklearn', 'mlflow', 'rich') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    output = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True,
                            check=True).stdout  # fmt: skip
    assert output.strip() == "[]"
