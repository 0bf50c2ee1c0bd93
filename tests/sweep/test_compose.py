"""A trial's config equals the config that Hydra would compose for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from tests.sweep.conftest import Toy
from wineexp.sweep.compose import Composer, dotted_keys

FIXED = ["kind=fixed", "hydra.sweep.dir='some where'", "+extra.deep=1"]

CASES = {
    "values": ([], ["x=2.5", "y=-1"]),
    "group and values": (["model=tree"], ["model.depth=7", "x=1e-05"]),
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


def parse(lines: list[str]) -> list:
    return OverridesParser.create().parse_overrides(lines)


def text(config) -> str:
    return OmegaConf.to_yaml(config, resolve=False)


def test_a_config_made_from_the_cache_is_hydras(loader: GlobalHydra) -> None:
    sweep_config = loader.hydra.compose_config("app", ["hydra.verbose=true", *FIXED], RunMode.MULTIRUN)
    composer = Composer(loader.config_loader(), sweep_config, FIXED)
    composed_by_hydra = {
        name: loader.config_loader().load_sweep_config(sweep_config, [*FIXED, *groups, *values])
        for name, (groups, values) in CASES.items()
    }
    # The second round takes every config from the cache, after all others have been made from it.
    for _ in range(2):
        for name, (groups, values) in CASES.items():
            config, expected = composer.compose(parse(groups), parse(values)), composed_by_hydra[name]
            assert text(config) == text(expected), name
            assert config == expected, name
            assert OmegaConf.is_struct(config) == OmegaConf.is_struct(expected), name
            assert OmegaConf.get_type(config, "hydra") is OmegaConf.get_type(expected, "hydra"), name


def test_what_hydra_refuses_the_composer_refuses(loader: GlobalHydra) -> None:
    sweep_config = loader.hydra.compose_config("app", [], RunMode.MULTIRUN)
    composer = Composer(loader.config_loader(), sweep_config, [])
    for line in ("model.depth=1", "nothing=1", "~nothing"):
        with pytest.raises(ConfigCompositionException, match="Could not"):
            composer.compose([], parse([line]))
        with pytest.raises(ConfigCompositionException):
            loader.config_loader().load_sweep_config(sweep_config, [line])


def test_a_trial_does_not_change_the_config_of_the_next(loader: GlobalHydra) -> None:
    sweep_config = loader.hydra.compose_config("app", [], RunMode.MULTIRUN)
    composer = Composer(loader.config_loader(), sweep_config, [])
    first = composer.compose([], parse(["x=7"]))
    first.y = 99
    second = composer.compose([], parse(["kind=b"]))
    assert (second.x, second.y, second.kind) == (1.0, 1.0, "b")
    assert list(second.hydra.overrides.task) == ["kind=b"]


def test_the_dotted_keys_of_a_config_are_those_of_its_values_and_its_nodes() -> None:
    config = OmegaConf.create(
        {"a": {"b": 1, "c": {}}, "link": "${a}", "list": [[{"d": 1}]], "none": None, "missing": "???"}
    )
    of_list = ["list", "list.0", "list.0.0", "list.0.0.d"]
    assert dotted_keys(config) == ["a", "a.b", "a.c", "link", *of_list, "none", "missing"]


def test_the_plugin_imports_no_large_library(tmp_path: Path) -> None:
    code = (
        "import sys; from hydra.core.plugins import Plugins; Plugins.instance()\n"
        "import hydra_plugins.wineexp_sweeper\n"
        "print([name for name in ('optuna', 'pandas', 'numpy', 'sklearn', 'mlflow', 'rich') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    output = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True,
                            check=True).stdout  # fmt: skip
    assert output.strip() == "[]"
