"""B13: how long the last save takes, beside `git add -A; git commit; git push`, which the original script runs.

    .venv/bin/python -m tests.bench.bench_save [--files 50000] [--megabytes 500] [--runs 1]

The worst workspace: everything in it is new and nothing was saved before. Both sides get the same files, the same kind
of remote on the same disk and a cold repository; ours is measured from SIGTERM to the exit of `edit-agent run`, with
the remote asked what it has; the original's from the start of `git add` to the end of `git push`, without that.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.agent.git import self_command
from tests.agent.world import Container, git, make_container, until
from tests.bench.frame import say

WORDS = [f"word{number:x}" for number in range(4000)]
PER_FOLDER = 250


@dataclass(frozen=True)
class Measured:
    """Seconds to the remote ref, and the most bytes that git's objects took beside the workspace."""

    seconds: float
    disk: int


def fill(workspace: Path, files: int, megabytes: int, generator: random.Random) -> None:
    """Write the files: sizes spread around the mean, half text and half what does not compress."""
    mean = megabytes * 1_000_000 / files
    for number in range(files):
        folder = workspace / f"part{number // PER_FOLDER}"
        if number % PER_FOLDER == 0:
            folder.mkdir()
        size = int(generator.uniform(0.2, 1.8) * mean)
        (folder / f"file{number}.dat").write_bytes(_text(generator, size) if number % 2 else generator.randbytes(size))


def _text(generator: random.Random, size: int) -> bytes:
    return " ".join(generator.choices(WORDS, k=size // 8 + 1)).encode()[:size]


def original(container: Container) -> Measured:
    """Save as the original script does."""
    # git may begin to pack in the background after the commit; that would slow its own push down.
    container.git("config", "gc.auto", "0")
    before = folder_size(container.workspace / ".git")
    began = time.monotonic()
    container.git("add", "-A")
    container.git("commit", "--quiet", "-m", "Auto-save on shutdown")
    container.git("push", "--quiet", "origin", "main")
    return Measured(time.monotonic() - began, folder_size(container.workspace / ".git") - before)


def ours(container: Container) -> Measured:
    """Save as the agent does when it is told to end."""
    ready = container.root / "ready"
    environment = container.env(EDIT_STOP_TIMEOUT="3600", EDIT_SAVE_TIMEOUT="3600")
    with (container.root / "agent.log").open("wb") as log:
        agent = subprocess.Popen(
            self_command("run", "--", "sh", "-c", f"touch {ready}; exec sleep 100000"), env=environment, stderr=log
        )
        until(ready.exists, what="the workload runs")
        before = folder_size(container.state)
        began = time.monotonic()
        agent.send_signal(signal.SIGTERM)
        code = agent.wait()
        seconds = time.monotonic() - began
    if code != 0:
        raise SystemExit(f"the save failed: {(container.root / 'agent.log').read_text()}")
    return Measured(seconds, folder_size(container.state) - before)


def folder_size(folder: Path) -> int:
    """Return the bytes on disk below a folder."""
    if not folder.exists():
        return 0
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def one(method: Callable[[Container], Measured], options: argparse.Namespace, seed: int) -> Measured:
    """Measure one method on a workspace of its own."""
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        container = make_container(Path(folder) / "c")
        fill(container.workspace, options.files, options.megabytes, random.Random(seed))
        os.sync()
        return method(container)


def main() -> None:
    """Measure, alternating, and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--dir", default=None, help="where to work; a disk like the container's")
    options = parser.parse_args()
    say(
        f"B13 {options.files} files, {options.megabytes} MB, seed {options.seed}; {git(Path('/'), '--version')}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for run in range(options.runs):
        first, second = one(original, options, options.seed + run), one(ours, options, options.seed + run)
        say(
            f"original {first.seconds:7.1f} s {first.disk / 1e6:7.0f} MB   "
            f"agent {second.seconds:7.1f} s {second.disk / 1e6:7.0f} MB   "
            f"ratio {second.seconds / first.seconds:.2f} (target 1.10)"
        )


if __name__ == "__main__":
    main()
