"""The commands of a Markdown page, run one after another in one shell, and what they print held against the page."""

import os
import re
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests import preloaded_python

# A comment before a block that says why its commands cannot be run by a test.
NOT_RUN = "<!-- not run: "

# What differs from run to run and from machine to machine.
VARYING = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T/]\d\d[:-]\d\d[:-]\d\d[-,.\d]*(?:\+00:00)?"), "TIME"),
    (re.compile(r"\d+\.\d+ s\b"), "SECONDS"),
    (re.compile(r"sqlite:////\S*/mlflow\.db"), "STORE"),
)


@dataclass
class Command:
    """A command of a page, and the lines below it that it is said to print; None where the page shows none."""

    line: int
    text: str
    output: list[str] | None = field(default=None)


def commands(page: Path) -> list[Command]:
    """The commands in a page's `bash` and `console` blocks, those left out that it says cannot be run."""
    found: list[Command] = []
    language, skipped, continued = "", False, False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith(NOT_RUN):
            skipped = True
        elif line.startswith("```"):
            # The comment holds for the next block alone.
            skipped = skipped and not language
            language = "" if language else line.removeprefix("```") or "text"
            continued = False
        elif language not in ("bash", "console") or skipped:
            continue
        elif continued:
            found[-1].text += f"\n{line}"
            continued = is_continued(line)
        elif language == "console" and not line.startswith("$ "):
            found[-1].output = [*(found[-1].output or []), line]
        elif line.strip() and not line.startswith("#"):
            text = line.removeprefix("$ ") if language == "console" else line
            found.append(Command(number, text, [] if language == "console" else None))
            continued = is_continued(text)
    return found


def is_continued(line: str) -> bool:
    """Whether a shell would read on after this line."""
    return line.endswith(("\\", "|"))


class Shell:
    """One bash in a folder, to which commands are given one by one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str]:
        """The exit code of a command and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        mark = f"end-{uuid.uuid4().hex}"
        self._process.stdin.write(f"{command}\necho {mark} $?\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            before, found, code = line.partition(mark)
            lines.append(before)
            if found:
                return int(code), "".join(lines)
        raise AssertionError(f"the shell ended within {command!r}: {''.join(lines)}")

    def close(self) -> None:
        """End the shell and whatever it has started."""
        subprocess.run(["pkill", "-KILL", "-s", str(self._process.pid)], check=False)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def environment(folder: Path) -> dict[str, str]:
    """The variables of a user who works in a clone of the project with the environment's programs on the PATH."""
    binaries = f"{preloaded_python.folder()}:{Path(preloaded_python.PYTHON).parent}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_", "HYDRA_"))}
    return kept | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": str(folder), "COLUMNS": "120"}


def words(text: str) -> str:
    """A text without what varies and with one space between words: tables are padded, and pages wrap long lines."""
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return " ".join(text.split())


def differences(expected: list[str], printed: str) -> str | None:
    """How the printed text differs from the page's; None where it does not. `...` in the page stands for any text."""
    pattern = ".*".join(re.escape(part) for part in words("\n".join(expected)).split("..."))
    if re.fullmatch(pattern.replace(r"\ .*\ ", r"\ (?:.*\ )?"), words(printed)):
        return None
    shown = "\n".join(expected)
    return f"the page shows\n{shown}\n\nbut this was printed\n{printed}"


def check_page(page: Path, clone: Path, **more: str) -> None:
    """Run the commands of a page in a clone; each must work and print what the page says that it prints.

    A shell runs them, with the environment variables of `environment` and those that are given.
    """
    variables = environment(clone) | more
    shell = Shell(clone, variables)
    try:
        for command in commands(page):
            # The requirements are installed already: the test runs with them.
            text = command.text.replace("pip install -r requirements.txt && ", "")
            code, printed = shell.run(text)
            expects_failure = any(line.lower().startswith("error: ") for line in command.output or [])
            where = f"{page.name}:{command.line}: {text}"
            assert (code != 0) == expects_failure, f"{where} ended with {code}\n{printed}"
            if command.output:
                difference = differences(command.output, printed)
                assert difference is None, f"{where}: {difference}"
    finally:
        shell.close()
