"""Every file under conf/ is walked, so that a new one is covered without anyone remembering."""

import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

import wineexp.train  # noqa: F401  registers the frame that conf/train.yaml names
from wineexp.core import instantiation
from wineexp.core.paths import ROOT
from wineexp.evaluation import metrics

CONF = ROOT / "conf"
GROUPS = ["data", "target", "feature", "split", "model"]
FILES = [path.relative_to(CONF) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(overrides))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_fits_its_callable(file: Path) -> None:
    cfg = composed(f"{file.parent}={file.stem}")
    # Optional packages, installed or not.
    pytest.importorskip(cfg[str(file.parent)]._target_.partition(".")[0])
    assert instantiation.check_node(str(file.parent), cfg[str(file.parent)]) == []


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_has_one_target_and_a_default_lives_in_one_place(file: Path) -> None:
    content = OmegaConf.load(CONF / file)
    pytest.importorskip(content._target_.partition(".")[0])
    target = get_object(content._target_)
    if not content._target_.startswith("wineexp."):
        return
    for name, parameter in inspect.signature(target).parameters.items():
        assert parameter.default is parameter.empty, f"{content._target_} has a default for {name}, and so has {file}"
        assert name in content


@pytest.mark.parametrize("file", sorted((CONF / "target").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_target_names_a_metric_and_its_direction(file: Path) -> None:
    target = OmegaConf.load(file)
    assert target.direction == metrics.METRICS[target.metric].direction


@pytest.mark.parametrize("file", sorted((CONF / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_data_set_brings_a_target_that_fits_and_gives_way_to_one_that_is_named(file: Path) -> None:
    cfg = composed(f"data={file.stem}")
    assert (cfg.target.column == "cultivar") == (file.stem == "cultivar")
    assert composed(f"data={file.stem}", "target=good").target.metric == "roc_auc"
