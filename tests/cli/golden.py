"""Texts that a review reads: `REWRITE_GOLDEN=1 pytest tests/cli` writes them anew, the diff says what changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def matches(name: str, lines: Iterable[str]) -> bool:
    """Say whether the lines are those of the golden file."""
    text = "\n".join(lines) + "\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text
    return True
