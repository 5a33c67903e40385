"""Processes: finding what the workload started, stopping and continuing it, and keeping its hands off the agent."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from controller.agent.log import log

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PASSES = 10
FREEZE_SECONDS = 2.0
FREEZE_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    state: str
    started: int


def table() -> dict[int, Process]:
    """Return every process that there is."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            process = _read(int(entry.name))
            if process:
                found[process.pid] = process
    return found


def _read(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses too.
    fields = text.rpartition(")")[2].split()
    return Process(pid, int(fields[1]), int(fields[3]), fields[0], int(fields[19]))


def descendants(of: int, without: Collection[int] = ()) -> Iterator[Process]:
    """Yield every process below one, except those in the given sessions (the agent's own helpers)."""
    processes = table()
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    waiting = [of]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            waiting.append(child.pid)
            if child.session not in without and child.state != "Z":
                yield child


def all_still(processes: Collection[Process]) -> bool:
    """Whether none of these can do anything.

    One that waits for its child to become another program (vfork) shows as busy (D) while the child is stopped.
    """
    parents = {process.parent for process in processes if process.state in "Tt"}
    return all(p.state in "Tt" or (p.state == "D" and p.pid in parents) for p in processes)


class Freezer:
    """Stops and continues all of the workload's processes, however they moved between groups and sessions."""

    def __init__(self) -> None:
        self._stopped: dict[int, int] = {}

    def freeze(self, without: Collection[int]) -> int:
        """Stop everything below the agent but its helpers; return how many processes are stopped by us.

        A signal takes a moment to arrive, and a process may start another in it, so the table is read until all of
        them stand still: what is written after the files were read would be missing in the receipt.
        """
        end = time.monotonic() + FREEZE_SECONDS
        while True:
            below = list(descendants(os.getpid(), without))
            for process in below:
                known = self._stopped.get(process.pid) == process.started
                if process.state not in "Tt" and not known and _signal(process.pid, signal.SIGSTOP):
                    self._stopped[process.pid] = process.started
            if all_still(below):
                return len(self._stopped)
            if time.monotonic() > end:
                log("notAllFrozen", processes=[p.pid for p in below if p.state not in "Tt"][:20])
                return len(self._stopped)
            time.sleep(FREEZE_PAUSE)

    def thaw(self) -> None:
        """Continue what `freeze` stopped; what had stopped by itself stays as it was."""
        now = table()
        for pid, started in self._stopped.items():
            if pid in now and now[pid].started == started:
                _signal(pid, signal.SIGCONT)
        self._stopped.clear()


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group, if it is still there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def kill_session(session: int) -> None:
    """Kill every process of a session: a helper with all that it started."""
    for _ in range(_PASSES):
        members = [p for p in table().values() if p.session == session and p.state != "Z"]
        for process in members:
            _signal(process.pid, signal.SIGKILL)
        if not members:
            return


def kill_descendants() -> None:
    """Kill everything below the agent. As the container's first process, ending does that by itself."""
    for _ in range(_PASSES):
        below = list(descendants(os.getpid()))
        for process in below:
            _signal(process.pid, signal.SIGKILL)
        if not below:
            return


def adopt_orphans() -> None:
    """Become the parent of processes whose parent died, as the container's first process is anyway."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def hide_memory() -> None:
    """Keep processes of the same user from reading this one's memory and environment."""
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
