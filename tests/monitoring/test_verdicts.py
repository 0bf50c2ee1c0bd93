from pathlib import Path

import pytest

from wineexp import UserError
from wineexp.monitoring import verdicts

SAID = {"alarm": True, "lines": ["the loss is greater"]}


def test_the_last_word_on_each_version_is_kept_in_a_folder(tmp_path: Path) -> None:
    log = str(tmp_path)
    assert verdicts.of_version(log, "wine", 2) == {}
    verdicts.write(log, "wine", 2, verdicts.DRIFT, {"alarm": False})
    verdicts.write(log, "wine", 1, verdicts.DRIFT, {"alarm": False})
    verdicts.write(log, "wine", 2, verdicts.DRIFT, SAID)
    verdicts.write(log, "wine", 2, verdicts.LIVE_TEST, {})
    assert verdicts.of_version(log, "wine", 2) == {verdicts.DRIFT: SAID, verdicts.LIVE_TEST: {}}
    (tmp_path / verdicts.FILE).write_text("{")
    assert verdicts.of_version(log, "wine", 2) == {}
    with pytest.raises(UserError, match=r"verdicts\.json cannot be written"):
        verdicts.write(str(tmp_path / "gone"), "wine", 2, verdicts.DRIFT, SAID)


def test_the_last_word_is_kept_in_a_database(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "DATABASE_INTERVAL_SECONDS", 0)
    assert verdicts.of_version(postgres, "wine", 2) == {}
    verdicts.write(postgres, "wine", 2, verdicts.DRIFT, {"alarm": False})
    verdicts.write(postgres, "wine", 2, verdicts.DRIFT, SAID)
    verdicts.write(postgres, "wine", 1, verdicts.DRIFT, {})
    assert verdicts.of_version(postgres, "wine", 2) == {verdicts.DRIFT: SAID}
    with pytest.raises(UserError, match="cannot be written there for the server"):
        verdicts.write("postgresql://nobody@127.0.0.1:9/none", "wine", 2, verdicts.DRIFT, SAID)
