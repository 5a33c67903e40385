"""Ends processes with all that they started; and, as a process of its own, those of a runner that was killed.

The runner tells its guard on standard input which processes it has: `+PID`, `-PID`, one a line. When that input ends
without a `done`, the runner is gone, however that happened, and nobody else would ever end what it had started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path

__all__ = ["Guard", "end_below", "kill_group"]

_PASSES = 20  # looks at the process table until all of a container stands still
_PASS_PAUSE = 0.005
_DONE = "done"
_SECONDS_TO_END = 5.0
_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from controller.local.guard import main; main()"
_PACKAGE_PATH = str(Path(__file__).resolve().parents[2])


class Guard:
    """Watches over processes for as long as this one lives. Not thread-safe: its owner locks.

    `temporary` is a directory that is removed when this process is killed; at an end in order that is its owner's part.
    """

    def __init__(self, temporary: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CODE, _PACKAGE_PATH, *([str(temporary)] if temporary else [])],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Ctrl-C and a closed terminal are for the runner, which ends everything in order.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The guard's process."""
        return self._process.pid

    def watch(self, pid: int) -> None:
        """End this process, the first of its session, and all that it started, should this one be killed."""
        self._say(f"+{pid}")

    def forget(self, pid: int) -> None:
        """The process is about to be reaped: from then on its number may be somebody else's."""
        self._say(f"-{pid}")

    def dismiss(self) -> None:
        """End the guard; nothing is left to watch over. May be called again."""
        self._say(_DONE)
        assert self._process.stdin is not None
        # What it was not told any more, nobody hears.
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        # A guard that was killed watches over nothing; the runner still ends its processes itself.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(f"{line}\n".encode())


def main() -> None:
    """Take in what there is; end it when nobody else can."""
    pids, done = _listen(sys.stdin)
    if done:
        return
    for pid in pids:
        # A number that was given out again is the first of no session, but by chance.
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == pid:
                end_below(pid)
                kill_group(pid)
    if sys.argv[1:]:
        _remove(Path(sys.argv[1]))


def _listen(lines: Iterable[str]) -> tuple[set[int], bool]:
    pids: set[int] = set()
    for line in lines:
        sign, number = line[:1], line[1:].strip()
        if line.strip() == _DONE:
            return pids, True
        if sign == "+":
            pids.add(int(number))
        elif sign == "-":
            pids.discard(int(number))
    return pids, False


def _remove(directory: Path) -> None:
    for _ in range(_PASSES):
        # A process that was killed may be in the middle of making a last file.
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(_PASS_PAUSE)


# Ending processes


def end_below(pid: int) -> None:
    """Stop a process, and kill everything that it started, as far as Linux shows who started whom."""
    _signal(pid, signal.SIGSTOP)
    for each in _freeze_below(pid):
        _signal(each, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Kill a process group, if there is anything left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _freeze_below(pid: int) -> set[int]:
    """Stop everything that a process started, until nothing new appears; return the pids."""
    stopped: set[int] = set()
    for _ in range(_PASSES):
        new = _below(pid) - stopped
        if not new:
            break
        for each in new:
            _signal(each, signal.SIGSTOP)
        stopped |= new
        # A process that was about to start another one may still do so.
        time.sleep(_PASS_PAUSE)
    return stopped & _below(pid)


def _below(pid: int) -> set[int]:
    """Return the processes that one started, and those that these started; zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # The name is in parentheses and may hold anything, parentheses too.
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found: set[int] = set()
    waiting: Collection[int] = (pid,)
    while waiting:
        waiting = [child for parent in waiting for child in children.get(parent, ())]
        found.update(waiting)
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
