"""The user's error: one fault as a sentence, several as a list; names guessed."""

import errno

from wineexp.core.error_messages import explain
from wineexp.core.errors import UserError, did_you_mean


def test_one_fault_is_its_own_text() -> None:
    assert str(UserError("n_jobs=0: 1 <= n_jobs must hold")) == "n_jobs=0: 1 <= n_jobs must hold"


def test_several_faults_are_counted_listed_and_indented() -> None:
    assert str(UserError("a is wrong", "b is\nwrong")) == "2 faults:\n  - a is wrong\n  - b is\n    wrong"


def test_did_you_mean_names_the_nearest_and_all() -> None:
    assert did_you_mean("forrest", ["xgb", "forest"]) == "did you mean forest? choices: forest, xgb"
    assert did_you_mean("zzz", ["xgb", "forest"]) == "choices: forest, xgb"
    assert did_you_mean("zzz", []) == "choices: (none)"
    assert did_you_mean("2", [3, 2]) == "did you mean 2? choices: 2, 3"


def test_a_fault_of_the_file_system_is_named_with_its_path_and_a_remedy() -> None:
    full = OSError(errno.ENOSPC, "any text", "/full/train.log")
    assert str(explain(full)).startswith(
        "/full/train.log: No space left on device; make room, or write elsewhere with "
    )
    assert (
        explain(OSError(errno.ENAMETOOLONG, "any", "/x" * 200))
        == f"{'/x' * 200}: File name too long; choose a shorter name"
    )
    # A file that is not there may be wineexp's own fault.
    assert explain(FileNotFoundError(errno.ENOENT, "any", "/gone")) is None
