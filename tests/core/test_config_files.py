"""Rules for every file in a group of conf/: it fits its callable, and a default is written in one place only."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from tests.conftest import composed
from wineexp.core import config
from wineexp.core.config import GROUPS
from wineexp.core.instantiation import check_node
from wineexp.core.paths import CONF
from wineexp.evaluation import metrics

FILES = [path.relative_to(CONF) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_fits_its_callable(file: Path) -> None:
    group = str(file.parent)
    cfg = composed(f"{group}={file.stem}")
    # The packages of some models are optional.
    pytest.importorskip(cfg[group]._target_.partition(".")[0])
    assert check_node(group, cfg[group]) == []


@pytest.mark.parametrize("file", [file for file in FILES if "wineexp." in (CONF / file).read_text()], ids=str)
def test_a_default_is_in_the_file_or_in_the_callable_of_wineexp(file: Path) -> None:
    content = composed(f"{file.parent}={file.stem}")[str(file.parent)]
    if not content._target_.startswith("wineexp."):
        return
    for name, parameter in inspect.signature(get_object(content._target_)).parameters.items():
        if file.parent.name == "data" and parameter.default is not parameter.empty:
            # What is not said of a data set is inferred from it.
            continue
        has_default = parameter.default is not parameter.empty
        assert has_default or name in content, f"{name} has a value nowhere"
        # These are there for the command line, which overrides what is there.
        is_overridden = file.parent.name == "target" and name in ("transform", "direction")
        is_repeated = name in content and has_default and content[name] == parameter.default
        assert is_overridden or not is_repeated or parameter.default is None, f"{file} repeats the default of {name}"


@pytest.mark.parametrize("file", sorted((CONF / "target").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_target_has_the_direction_of_its_metric(file: Path) -> None:
    target = OmegaConf.load(file)
    assert target.direction == metrics.METRICS[target.metric].direction


@pytest.mark.parametrize("file", sorted((CONF / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_data_set_selects_a_target_that_the_command_line_overrides(file: Path) -> None:
    cfg = composed(f"data={file.stem}")
    assert (cfg.target.column == "cultivar") == (file.stem == "cultivar")
    assert composed(f"data={file.stem}", "target=good").target.metric == "roc_auc"


def test_words_for_the_data_leave_the_hash_of_a_config_as_it_is() -> None:
    plain = config.config_sha256(composed())
    words = ("data.noun=[bottle,bottles]", "data.columns.alcohol.unit=%", "+data.columns.alcohol.meaning=by volume")
    assert config.config_sha256(composed(*words)) == plain
    assert config.config_sha256(composed("data.columns.alcohol.range=[0,100]")) != plain
