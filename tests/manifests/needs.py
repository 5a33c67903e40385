"""What some tests need of the machine. Without it they are skipped with a sentence; on CI they fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]

# Read while tests are collected: each test gets an environment without it.
ON_CI = bool(os.environ.get("CI"))
SLOW = bool(os.environ.get("EDITCTL_SLOW_TESTS"))
"""Tests that take minutes and rarely find something are asked for by name."""


def missing(what: str, todo: str, *, must: bool = ON_CI) -> NoReturn:
    """Skip the test, or fail it where it has to run."""
    sentence = f"{what}: {todo}"
    if must:
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def program(venv: str, name: str, todo: str) -> Path:
    """Return a program of one of the tree's environments."""
    path = ROOT / venv / "bin" / name
    if not path.exists():
        missing(f"there is no {venv}", todo)
    return path
