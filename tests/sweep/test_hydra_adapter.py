"""What the sweeper relies on in Hydra and OmegaConf beyond their public interfaces."""

import logging
from collections.abc import Iterator
from logging.handlers import MemoryHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, base, open_dict, read_write
from omegaconf.errors import ReadonlyConfigError, ValidationError

from wineexp.sweep import _hydra, _omegaconf

# Hydra 1.4 deprecates what 1.3 warns of the lack of.
pytestmark = pytest.mark.filterwarnings("ignore:The version_base parameter is deprecated")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[DictConfig]:
    (tmp_path / "app.yaml").write_text("x: 1\nname: ${hydra:job.name}\nnested: {a: 1, b: 2}\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        yield compose("app", ["x=2"], return_hydra_config=True)
    HydraConfig.instance().cfg = None


def parse(*lines: str) -> list:
    return OverridesParser.create().parse_overrides(list(lines))


def test_overrides_are_applied_to_a_composed_config(config: DictConfig) -> None:
    _hydra.apply_overrides(parse("x=5", "nested.a=7", "+nested.c=3", "~nested.b"), config)
    assert config.x == 5
    assert config.nested == {"a": 7, "c": 3}


@pytest.mark.parametrize("line", ["unknown=1", "~unknown"])
def test_an_override_of_an_unknown_key_is_refused(config: DictConfig, line: str) -> None:
    with pytest.raises(ConfigCompositionException, match="Could not"):
        _hydra.apply_overrides(parse(line), config)


@pytest.mark.parametrize("kind", [OverrideType.CHANGE, OverrideType.ADD, OverrideType.FORCE_ADD])
def test_a_made_override_equals_a_parsed_one(kind: OverrideType) -> None:
    made = _hydra.make_override("nested.a", "0.5", 0.5, kind)
    (parsed,) = parse(made.input_line)
    assert made.input_line.endswith("nested.a=0.5")
    assert (made.type, made.key_or_group, made.package) == (parsed.type, parsed.key_or_group, parsed.package)
    assert made.value() == parsed.value() == 0.5
    assert not made.is_sweep_override()


def test_the_name_made_of_a_jobs_overrides_is_hydras(config: DictConfig) -> None:
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.overrides.task = ["x=3", "nested.a=4"]
        _hydra.set_override_dirname(config.hydra, parse("x=3", "nested.a=4"))
    HydraConfig.instance().set_config(config)
    assert sorted(config.hydra.job.override_dirname.split(",")) == ["nested.a=4", "x=3"]


def test_the_basic_launcher_is_the_default(config: DictConfig) -> None:
    assert config.hydra.launcher._target_ == _hydra.BASIC_LAUNCHER
    assert "BasicLauncher" in [plugin.__name__ for plugin in Plugins.instance().discover()]


def test_the_folder_of_a_sweep_that_the_user_has_not_stated(config: DictConfig) -> None:
    sweep = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert sweep["dir"] == _hydra.DEFAULT_SWEEP_DIR


def test_a_context_without_callbacks_calls_none() -> None:
    def fail(**_: object) -> None:
        raise AssertionError("a callback was called")

    context = HydraContext(ConfigLoader, SimpleNamespace(on_job_start=fail))
    quiet = _hydra.without_callbacks(context)
    assert quiet.config_loader is context.config_loader
    quiet.callbacks.on_job_start(config=OmegaConf.create(), task_function=fail)


def test_a_deletion_is_made_as_it_is_parsed() -> None:
    made = _hydra.make_override("model", "", None, OverrideType.DEL)
    (parsed,) = parse("~model")
    assert (made.input_line, made.type, made.value()) == (parsed.input_line, parsed.type, parsed.value())


def test_buffered_log_records_are_flushed(tmp_path: Path) -> None:
    target = logging.FileHandler(tmp_path / "log", delay=True)
    buffer = MemoryHandler(100, flushLevel=logging.CRITICAL, target=target)
    logging.getLogger().addHandler(buffer)
    try:
        logging.getLogger().warning("buffered")
        assert not (tmp_path / "log").exists()
        _hydra.flush_loggers()
        assert (tmp_path / "log").read_text() == "buffered\n"
    finally:
        logging.getLogger().removeHandler(buffer)
        target.close()


def test_the_hydra_node_is_detached_uncopied_and_the_config_stays_whole(config: DictConfig) -> None:
    before = OmegaConf.to_yaml(config)
    task_config, hydra_node = _omegaconf.detach_hydra(config)
    assert sorted(task_config) == ["name", "nested", "x"]
    assert OmegaConf.to_yaml(config) == before
    assert hydra_node is config.hydra
    with open_dict(task_config):
        task_config.x = 99
    assert config.x == 2


def test_an_attached_hydra_node_resolves_in_its_new_config() -> None:
    config = OmegaConf.create({"x": 1})
    other = OmegaConf.create({"x": 2})
    node = OmegaConf.create({"shown": "${x}"})
    _omegaconf.attach_hydra(config, node)
    assert config.hydra is node
    assert node.shown == 1
    _omegaconf.set_parent(node, other)
    assert node.shown == 2
    assert config.hydra is node


def test_a_value_of_a_read_only_node_is_set_and_nothing_else_may_be(config: DictConfig) -> None:
    OmegaConf.set_readonly(config.hydra, True)
    _omegaconf.set_value(config.hydra.job, "num", 3)
    _omegaconf.set_value(config.hydra.overrides, "task", ["x=3"])
    assert (config.hydra.job.num, list(config.hydra.overrides.task)) == (3, ["x=3"])
    with pytest.raises(ReadonlyConfigError):
        config.hydra.job.num = 4
    with pytest.raises(ValidationError):
        _omegaconf.set_value(config.hydra.job, "num", "three")


def test_an_interpolation_is_parsed_once() -> None:
    config = OmegaConf.create({"x": 1, "shown": "${x} of ${other}", "other": 2})
    with _omegaconf.parsing_interpolations_once():
        assert config.shown == "1 of 2"
        config.x = 3
        assert config.shown == "3 of 2"
        assert vars(base)["parse"].cache_info().misses == 1
    assert not hasattr(vars(base)["parse"], "cache_info")


def test_yaml_is_written_as_omegaconf_writes_it() -> None:
    config = OmegaConf.create(
        {"digits": "007", "float": "1e-3", "text": "a: b", "unicode": "größe", "link": "${text}", "none": None,
         "nested": {"empty": {}, "items": [1, 0.1, True, "null"]}, "missing": "???"}
    )  # fmt: skip
    nodes = [config, OmegaConf.create({}), OmegaConf.create([]), OmegaConf.create(["x=1", "a: b", "--- c"])]
    _, *texts = _omegaconf.JobYaml(()).texts(OmegaConf.create({"hydra": {}}), *nodes)
    assert texts == [OmegaConf.to_yaml(node) for node in nodes]


def test_the_yaml_of_the_hydra_node_is_omegaconfs_also_where_text_is_kept(config: DictConfig) -> None:
    hydra_config = OmegaConf.create({})
    _omegaconf.attach_hydra(hydra_config, config.hydra)
    writer = _omegaconf.JobYaml(["hydra.job.num", "hydra.runtime.output_dir"])
    for number in (3, 4):
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.num = number
            config.hydra.launcher = {"n_jobs": number}
        (text,) = writer.texts(hydra_config)
        assert text == OmegaConf.to_yaml(hydra_config)
        assert f"num: {number}" in text
