"""The house's floors: a module imports only from floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "wineexp"

FLOORS = [
    ["errors", "config", "pin", "program", "address", "seal"],
    [
        *("data", "target", "feature", "split", "model", "evaluation", "report", "findings", "chart", "comparison"),
        *("schema", "wording", "alternative"),
    ],
    [
        *("problem", "console", "artifact", "provenance", "gate", "layout", "scorechart", "explanation", "compiled"),
        *("decision", "conformal"),
    ],
    [
        *("experiment", "store", "page", "certificate", "worktree", "document", "facts", "ordinal", "ensemble"),
        *("preparation", "assessment"),
    ],
    ["tracking", "limits", "performance"],
    ["record", "studies", "runs", "registry", "card"],
    ["audit", "ranking", "ancestry", "dossier"],
    ["promotion", "sweep", "reproduction", "account", "serving", "rivals"],
    ["listing", "scoreboard", "results"],
    ["fetch", "explore", "prepare", "train", "evaluate", "promote", "reproduce", "compare", "serve"],
]
PROGRAMS = FLOORS[-1]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

# The bottom floor stands on itself.
NEIGHBOURS = {
    *((name, "errors") for name in ("config", "pin", "program", "seal")),
    ("program", "config"),
    ("address", "pin"),
}


def module_name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if module_name(path) != "__init__"]


def imports(tree: ast.AST) -> set[str]:
    """Dotted names of everything imported in a piece of code."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    name = module_name(path)
    assert name in FLOOR, f"say in FLOORS which floor {name} is on"
    ours = {
        imported.split(".")[1] for imported in imports(ast.parse(path.read_text())) if imported.startswith("wineexp.")
    }
    for imported in ours - {name}:
        allowed = FLOOR[imported] < FLOOR[name] or (name, imported) in NEIGHBOURS
        assert allowed, f"{name} imports {imported}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_mlflow_and_hydra_stay_on_their_floors(path: Path) -> None:
    packages = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    name = module_name(path)
    if name not in ("store", "tracking", "studies", "runs", "registry", "audit"):
        assert "mlflow" not in packages
    if name in FLOORS[1]:
        assert not packages & {"hydra", "omegaconf", "optuna"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_imports_nothing_heavy_at_its_top(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text())
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[])
    packages = {imported.split(".")[0] for imported in imports(top)} - set(sys.stdlib_module_names)
    assert packages <= {"hydra", "omegaconf", "wineexp"}
    ours = {imported.split(".")[1] for imported in imports(top) if imported.startswith("wineexp.")}
    assert ours <= {"config", "errors", "program"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_starts_without_anything_heavy(name: str) -> None:
    heavy = {"pandas", "numpy", "sklearn", "xgboost", "mlflow", "optuna", "dvc", "matplotlib"}
    code = f"import sys, wineexp.{name}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == ""


def test_serving_imports_what_it_needs_to_answer_and_no_more() -> None:
    answering = {"address", "compiled", "schema", "seal"}
    verifying = {"alternative", "artifact", "evaluation", "explanation", "registry", "runs", "store"}
    needed = answering | verifying | {"config", "errors", "program", "serving"}
    for path in (PACKAGE / "serving").rglob("*.py"):
        dotted = [name.split(".") for name in imports(ast.parse(path.read_text())) if name.startswith("wineexp.")]
        assert {parts[1] for parts in dotted} <= needed, path
