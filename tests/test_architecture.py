"""Which package may import which, and what a program may import before it has read its command line."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import preloaded_python
from wineexp.core.paths import PACKAGE, ROOT

PROGRAMS = sorted(
    path.stem for path in PACKAGE.glob("*.py") if "from wineexp.core.program import program" in path.read_text()
)
HEAVY = {"pandas", "numpy", "sklearn", "xgboost", "mlflow", "optuna", "dvc", "matplotlib"}


@pytest.fixture(scope="module")
def lint_imports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs import-linter with a text as its settings."""
    folder = tmp_path_factory.mktemp("contracts")
    program = Path(preloaded_python.PYTHON).with_name("lint-imports")

    def lint(settings: str) -> subprocess.CompletedProcess[str]:
        (folder / "pyproject.toml").write_text(settings)
        arguments = ["--no-logo", "--config", str(folder / "pyproject.toml"), "--cache-dir", str(folder / "cache")]
        return subprocess.run(
            [program, *arguments], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )

    return lint


def test_the_contracts_of_pyproject_are_kept(lint_imports: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = lint_imports((ROOT / "pyproject.toml").read_text())
    assert done.returncode == 0, done.stdout


def test_an_import_from_above_breaks_the_contract(
    lint_imports: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """Exchanging two layers of the contract turns imports from below into imports from above."""
    contracts = (ROOT / "pyproject.toml").read_text()
    exchanged = contracts.replace(
        '"wineexp.evaluation",\n    "wineexp.core"', '"wineexp.core",\n    "wineexp.evaluation"'
    )
    assert exchanged != contracts
    done = lint_imports(exchanged)
    assert done.returncode == 1
    assert "wineexp.evaluation is not allowed to import wineexp.core" in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_imports_nothing_heavy_at_its_top(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    imported = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    packages = {dotted.split(".")[0] for dotted in imported} - set(sys.stdlib_module_names)
    assert packages <= {"hydra", "omegaconf", "wineexp"}
    assert {dotted for dotted in imported if dotted.startswith("wineexp.")} <= {
        *("wineexp.core.config", "wineexp.core.errors", "wineexp.core.instantiation", "wineexp.core.program"),
        *("wineexp.core.output_files", "wineexp.core.paths"),
    }


def test_no_program_imports_anything_heavy_when_it_starts() -> None:
    code = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for name in {PROGRAMS}:\n"
        "    importlib.import_module(f'wineexp.{name}')\n"
        f"    loaded[name] = sorted({HEAVY} & set(sys.modules))\n"
        "print(json.dumps(loaded))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == {name: [] for name in PROGRAMS}
