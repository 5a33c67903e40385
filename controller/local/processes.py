"""Tasks of the local ECS as processes of this machine, each on the loopback address that its task has.

What runs in a task is the caller's word: this module knows processes, directories and addresses, and the metadata
endpoint that ECS gives every task. Of a task's containers the first essential one runs; an image cannot be run here.

A container's end is the end of all that it started. Here, what a process that is killed had started is killed too, as
far as Linux shows who started whom; of a process that ends by itself, what is left in its process group. Should the
runner's own process be killed, a guard ends what it had started (guard.py).
"""

from __future__ import annotations

import http
import json
import logging
import os
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Protocol

from controller.local.describe import LaunchedContainer, LaunchedTask
from controller.local.guard import Guard, end_below, kill_group

__all__ = ["Fitting", "LocalEcs", "ProcessRunner", "Start"]

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
METADATA_VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
LOG_NAME = "log"

_TICK = 0.05  # seconds between two looks at the processes


class LocalEcs(Protocol):
    """What a runner needs of the local ECS."""

    def settle(self) -> None: ...
    def next_change(self) -> int | None: ...
    def exit_task(self, task: str, exit_code: int, reason: str = ...) -> bool: ...


@dataclass(frozen=True, slots=True)
class Fitting:
    """What to run for one task, and variables that come before those of its definition and overrides."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


Start = Callable[[LaunchedTask, Path], Fitting]
"""Says what to run for a task, given the directory that is the task's own."""


@dataclass(slots=True)
class _Running:
    """The process of a task. `kill_at` is monotonic, None until the stop signal was sent."""

    arn: str
    process: subprocess.Popen[bytes]
    kill_at: float | None = None


class ProcessRunner:
    """Runs each task as a process; a TaskObserver. Every method may be called from any thread.

    `root` gets a directory for each task, named by its id: the process starts there, it is its HOME, and its output is
    in `log` there. The process gets nothing of this one's environment but PATH. `clock` must be the ECS's. `temporary`
    is a directory that is removed if this process is killed and cannot do so itself.
    """

    def __init__(self, root: Path, start: Start, clock: Callable[[], int], *, temporary: Path | None = None) -> None:
        self._root = root
        self._start = start
        self._clock = clock
        self._ecs: LocalEcs | None = None
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._driver: threading.Thread | None = None
        self._metadata = _Metadata()
        self._guard = Guard(temporary)

    def drive(self, ecs: LocalEcs) -> None:
        """Let the ECS go on by itself from here on: settle what is due, and tell it which processes have ended."""
        self._ecs = ecs
        self._driver = threading.Thread(target=self._drive, name="editctl-tasks", daemon=True)
        self._driver.start()

    def close(self) -> None:
        """End every process that was started, and all that these started, and wait for it. May be called again."""
        self._closing.set()
        if self._driver is not None:
            self._driver.join()
        with self._lock:
            for running in self._running.values():
                self._end(running.process)
            self._running.clear()
            self._guard.dismiss()
        self._metadata.close()

    @property
    def guard_pid(self) -> int:
        """The process that ends all of it if this one is killed."""
        return self._guard.pid

    def directory(self, arn: str) -> Path:
        """Return the directory of a task."""
        return self._root / _task_id(arn)

    def pid(self, arn: str) -> int | None:
        """Return the process of a task, None when it has ended."""
        with self._lock:
            return self._running[arn].process.pid if arn in self._running else None

    # For the ECS

    def on_start(self, task: LaunchedTask) -> None:
        """Start the task's process. Raises OSError when it cannot be started, which fails the task."""
        container = next(c for c in task.containers if c.essential)
        directory = self.directory(task.arn)
        directory.mkdir(parents=True)
        fitting = self._start(task, directory)
        self._metadata.tasks[_task_id(task.arn)] = _metadata_of(task)
        environment = self._environment(task, container, directory) | dict(fitting.environment)
        with self._lock, (directory / LOG_NAME).open("ab") as output:
            if self._closing.is_set():
                raise RuntimeError("the tasks of this ECS are being ended")
            process = subprocess.Popen(
                list(fitting.command),
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._guard.watch(process.pid)
            self._running[task.arn] = _Running(task.arn, process)

    def on_stop(self, task: LaunchedTask) -> None:
        """Send SIGTERM to the task's first process, as a container runtime does; SIGKILL follows in time."""
        with self._lock:
            running = self._running.get(task.arn)
            if running is not None and running.kill_at is None:
                running.kill_at = time.monotonic() + task.stop_timeout
                # Nobody but `_collect` reaps it, so the pid is still its own.
                os.kill(running.process.pid, signal.SIGTERM)

    def _environment(self, task: LaunchedTask, container: LaunchedContainer, directory: Path) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            **container.environment,
            METADATA_VARIABLE: f"{self._metadata.url}/{_task_id(task.arn)}",
        }

    # The driver's thread

    def _drive(self) -> None:
        assert self._ecs is not None
        while not self._closing.wait(_TICK):
            due = self._ecs.next_change()
            if due is not None and due <= self._clock():
                self._ecs.settle()
            for arn, code in self._collect():
                try:
                    self._ecs.exit_task(arn, code)
                except LookupError:
                    logger.debug("%s ended after its ECS had forgotten it", arn)

    def _collect(self) -> list[tuple[str, int]]:
        """Reap what has ended, kill what had its time; return the exit codes as a container runtime gives them."""
        now = time.monotonic()
        found = []
        # Nobody may signal a process between its end and its leaving the list: then its pid may be another's.
        with self._lock:
            late = [r for r in self._running.values() if r.kill_at is not None and r.kill_at <= now]
            for running in [r for r in self._running.values() if r in late or _has_ended(r.process)]:
                found.append((running.arn, self._end(running.process)))
                del self._running[running.arn]
        return found

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """Kill what is left of a container, reap its first process, return its exit status: 128 + n for signal n."""
        if not _has_ended(process):
            end_below(process.pid)
        kill_group(process.pid)
        self._guard.forget(process.pid)
        code = process.wait()
        return code if code >= 0 else 128 - code


def _task_id(arn: str) -> str:
    return arn.rpartition("/")[2]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether it has ended, and leave it to be reaped: until then its pid, and its group's, is nobody else's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


# The task metadata endpoint


def _metadata_of(task: LaunchedTask) -> bytes:
    # Developer Guide, "Task metadata endpoint version 4": of `${ECS_CONTAINER_METADATA_URI_V4}/task` what is known.
    addresses = [task.address] if task.address else []
    networks = [{"NetworkMode": "awsvpc", "IPv4Addresses": addresses}]
    containers = [{"Name": container.name, "Networks": networks} for container in task.containers]
    return json.dumps({"Cluster": task.cluster_arn, "TaskARN": task.arn, "Containers": containers}).encode()


class _Metadata(socketserver.ThreadingTCPServer):
    """Answers `GET /TASKID/task`, to tasks of this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        self.tasks: dict[str, bytes] = {}
        super().__init__((HOST, 0), _MetadataHandler)
        self._thread = threading.Thread(target=self.serve_forever, args=(_TICK,), name="metadata", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address that the tasks' ids are below."""
        return f"http://{HOST}:{self.server_address[1]}"

    def close(self) -> None:
        """Stop answering."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()


class _MetadataHandler(BaseHTTPRequestHandler):
    server: _Metadata
    timeout = 5

    def do_GET(self) -> None:
        task_id, _, what = self.path.strip("/").partition("/")
        body = self.server.tasks.get(task_id) if what == "task" else None
        self.send_response_only(http.HTTPStatus.OK if body else http.HTTPStatus.NOT_FOUND)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: these are a task's own questions."""
