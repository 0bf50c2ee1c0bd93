"""The kernel's build, and compiling in a process of its own, which may fail."""

import os
from pathlib import Path
from typing import Any

import pytest
from sklearn.svm import LinearSVC

from tests.conftest import environment, run_preloaded
from tests.models.compiled.conftest import mixed_rows
from wineexp.models import features
from wineexp.models.compiled import compiled_model, kernel
from wineexp.models.compiled.compilation import compile_pipeline
from wineexp.models.compiled.file_format import COMPILED
from wineexp.models.pipeline import make_pipeline


def test_without_a_compiler_no_library_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel, "BUILD_FOLDER", tmp_path / "build")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert kernel.build() is None
    monkeypatch.setenv("CC", "false")
    assert kernel.build() is None
    assert not list((tmp_path / "build").iterdir())


@pytest.mark.journey
def test_a_pipeline_is_compiled_in_a_process_of_its_own(xgb_domain: Any) -> None:
    """By default the promotion's tests show it."""
    pipeline, X, plan, _ = xgb_domain
    content, status = compile_pipeline(pipeline, X)
    assert status == COMPILED
    assert content is not None
    assert compiled_model.load(content).plan == plan


@pytest.mark.journey
def test_why_a_pipeline_cannot_be_compiled_comes_from_the_process() -> None:
    X, y = mixed_rows(60)
    pipeline = make_pipeline(features.raw("median"), LinearSVC(), ["dry", "extra", "sweet"]).fit(X, y)
    assert compile_pipeline(pipeline, X) == (None, "a model LinearSVC cannot be compiled")


class Crash:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (7,)


@pytest.mark.journey
def test_a_crash_while_compiling_is_reported() -> None:
    X, _ = mixed_rows(3)
    assert compile_pipeline(Crash(), X) == (None, "the process that was to compile it ended with code 7")


@pytest.mark.journey
def test_a_script_without_a_main_guard_can_compile(tmp_path: Path) -> None:
    """As the example in docs/extending.md promotes; many rows, more than a pipe holds."""
    script = tmp_path / "script.py"
    script.write_text(
        "import pandas as pd\n"
        "from sklearn.svm import LinearSVC\n"
        "from tests.models.compiled.conftest import mixed_rows\n"
        "from wineexp.models import features\n"
        "from wineexp.models.compiled.compilation import compile_pipeline\n"
        "from wineexp.models.pipeline import make_pipeline\n"
        "X, y = mixed_rows(60)\n"
        "pipeline = make_pipeline(features.raw('median'), LinearSVC(), ['dry', 'extra', 'sweet']).fit(X, y)\n"
        "print(compile_pipeline(pipeline, pd.concat([X] * 200)))\n"
    )
    done = run_preloaded([str(script)], tmp_path, environment(tmp_path), timeout=100)
    assert done.stdout == "(None, 'a model LinearSVC cannot be compiled')\n", done.stderr
