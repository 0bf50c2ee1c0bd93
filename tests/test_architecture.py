"""Which package may import which, and what a program may import before it has read its command line."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from wineexp.core.paths import PACKAGE, ROOT

PROGRAMS = sorted(
    path.stem for path in PACKAGE.glob("*.py") if "from wineexp.core.program import program" in path.read_text()
)
HEAVY = {"pandas", "numpy", "sklearn", "xgboost", "mlflow", "optuna", "dvc", "matplotlib"}


def run_lint(config: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--config", config, "--no-cache"]
    return subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


def test_the_contracts_of_pyproject_are_kept() -> None:
    done = run_lint("pyproject.toml")
    assert done.returncode == 0, done.stdout


def test_an_import_from_above_breaks_the_contract(tmp_path: Path) -> None:
    """The contract with two packages exchanged, so that imports which are there are from above."""
    contracts = (ROOT / "pyproject.toml").read_text()
    swapped = contracts.replace(
        '"wineexp.evaluation",\n    "wineexp.core"', '"wineexp.core",\n    "wineexp.evaluation"'
    )
    assert swapped != contracts
    (tmp_path / "pyproject.toml").write_text(swapped)
    done = run_lint(str(tmp_path / "pyproject.toml"))
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
        *("wineexp.core.config", "wineexp.core.errors", "wineexp.core.instantiation", "wineexp.core.program")
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_starts_without_anything_heavy(name: str) -> None:
    code = f"import sys, wineexp.{name}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
