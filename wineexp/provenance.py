"""Where a run comes from: the code's commit, and whether the tree had other changes."""

import subprocess

from wineexp.pin import ROOT


def code() -> dict[str, str]:
    """Tags `git.commit` and `git.dirty`; none where the project is no git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],  # noqa: S607  git is found on the user's PATH
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        return {
            "git.commit": git("rev-parse", "HEAD"),
            "git.dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {}
