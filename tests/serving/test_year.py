"""A year after deployment, as `benchmarks/monitoring/year.py` lives through it: from the alarm to the promotion."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from wineexp.core.paths import ROOT


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("year", ROOT / "benchmarks/monitoring/year.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_red_wine_turns_white_and_the_loop_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    module = load()
    year = module.live(tmp_path, look_days=30)
    days, events = year.days, year.events
    assert module.TURN_DAY < events["alarm"] < events["retrained"] < events["better"] <= events["promoted"]
    assert {day["version"] for day in days[: events["promoted"] + 1]} == {1}
    assert {day["version"] for day in days[events["promoted"] + 1 :]} == {2}
    # White wine is answered better afterwards than by the champion that knew red wine alone.
    before, after = days[module.TURNED_DAY : events["promoted"]], days[events["promoted"] + 1 :]
    mean_before, mean_after = (sum(day["right"] for day in part) / len(part) for part in (before, after))
    assert mean_after > mean_before + 0.03
    assert "is better" in year.lines[-1]
    module.draw(year, tmp_path / "year.png")
    assert (tmp_path / "year.png").stat().st_size > 10_000
