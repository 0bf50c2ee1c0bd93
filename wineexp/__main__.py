"""The command `wineexp`: lists the programs, or runs one of them as `python -m wineexp.<program>` does."""

import runpy
import sys
from pathlib import Path


def programs() -> dict[str, str]:
    """What each program is for, by its name: the first line of its module's docstring."""
    import ast

    purposes = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            purposes[path.stem] = docstring.partition("\n")[0].partition(": `")[0].rstrip(".")
    return purposes


def main() -> None:
    """Run `wineexp <program> <overrides>`; without a program, list them."""
    arguments = sys.argv[1:]
    if arguments and (Path(__file__).parent / f"{arguments[0]}.py").is_file() and arguments[0].isidentifier():
        sys.argv = sys.argv[1:]
        runpy.run_module(f"wineexp.{arguments[0]}", run_name="__main__", alter_sys=True)
        return
    known = programs()
    if arguments and arguments[0] not in ("-h", "--help"):
        from wineexp.core.errors import did_you_mean

        sys.exit(f"error: {arguments[0]}: no such program; {did_you_mean(arguments[0], known)}")
    width = max(map(len, known))
    print("usage: wineexp PROGRAM [group=choice] [key=value]; wineexp PROGRAM --help says more\n")
    for name, purpose in known.items():
        print(f"  {name:<{width}}  {purpose}")


if __name__ == "__main__":
    main()
