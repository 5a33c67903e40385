"""What works in the demo's containers: an agent as small as can be. It starts in its workspace and does as it is told.

It runs by itself, beside `edit-agent` and with the standard library only, as any program of an image would.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["ANSWER", "MESSAGE"]

MESSAGE = "message"
"""In its home, what a user has written: the name of a page to make."""
ANSWER = "answer"
"""There, the same again when it is done."""
_TICK = 0.05
_IMAGE_BYTES = 4096


def _make_page(name: str) -> None:
    """Make a page with an image and a script, and link it: what is new, what is changed, text, bytes, and a mode."""
    Path(f"{name}.html").write_text(f"<h1>{name}</h1>\n<img src=images/{name}.png>\n")
    Path("images").mkdir(exist_ok=True)
    Path(f"images/{name}.png").write_bytes(os.urandom(_IMAGE_BYTES))
    with Path("index.html").open("ab") as index:
        index.write(f"<a href={name}.html>{name}</a>\r\n".encode())
    script = Path("build.sh")
    script.write_text("#!/bin/sh\necho built\n")
    script.chmod(0o755)


def _main() -> None:
    home, pause = Path(os.environ["HOME"]), threading.Event()
    while not pause.wait(_TICK):
        if (home / MESSAGE).exists():
            _make_page((home / MESSAGE).read_text())
            (home / MESSAGE).rename(home / ANSWER)


if __name__ == "__main__":
    _main()
