"""`editctl completion`: the scripts, and what they are answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller.cli.completion import SHELLS, VARIABLE
from tests.cli.lab import Lab

CODE = "from controller.cli.main import main; main()"


def completed(*words: str) -> list[str]:
    """Return what a shell is answered for the last of these words."""
    line = " ".join(words)
    env = {**os.environ, VARIABLE: "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(lab: Lab, shell: str) -> None:
    done = lab.editctl("completion", shell)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in done.stdout
    checker = shutil.which(shell)
    if checker is not None:
        subprocess.run([checker, "-n"], input=done.stdout, text=True, check=True)


def test_another_shell(lab: Lab) -> None:
    done = lab.editctl("completion", "csh")
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 3)


def test_commands_and_options_are_completed() -> None:
    assert completed("editctl", "pl") == ["plan"]
    assert completed("editctl", "restart", "--outd") == ["--outdated"]
    assert completed("editctl", "session", "op") == ["open"]
