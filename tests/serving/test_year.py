"""A year after deployment, as `benchmarks/monitoring/year.py` lives through it: from the alarm to the promotion."""

from pathlib import Path

import pytest

from benchmarks.monitoring import year
from wineexp.core.paths import ROOT


@pytest.mark.journey
@pytest.mark.usefixtures("wine_quality")
def test_red_wine_turns_white_and_the_loop_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with year.project(tmp_path):
        year.make_champion()
        with year.serving(tmp_path) as server:
            # Looks before the change are left out for time: a look sees whatever an earlier one would have seen.
            found = year.live(server, year.wines_of_a_year(seed=2), look_days=30, first_look=year.TURN_DAY)
    days, events = found.days(), found.events
    assert year.TURN_DAY < events["alarm"] < events["retrained"] < events["better"] <= events["promoted"]
    assert set(days["version"][: events["promoted"] + 1]) == {1}
    assert set(days["version"][events["promoted"] + 1 :]) == {2}
    assert "is better" in found.lines[-1]
    year.draw(found, tmp_path / "year.png")
    assert (tmp_path / "year.png").stat().st_size > 10_000
