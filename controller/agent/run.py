"""`edit-agent run`: the supervisor on a real operating system.

One thread looks, decides and acts; it also collects every child, so that no other thread's wait can miss one. The
server's threads only put wishes into `Control` and wake it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.agent import metadata, processes
from controller.agent.clock import SYSTEM
from controller.agent.control import Control
from controller.agent.git import self_command
from controller.agent.log import log
from controller.agent.protocol import ENV_PORT, EXIT_CRASHED, EXIT_NOT_SAVED, receipt_from_json
from controller.agent.server import LOOPBACK, Server
from controller.agent.settings import Settings
from controller.agent.supervisor import ENDS, FORWARDED, JobKind, Result, Supervisor, exit_status
from controller.errors import ConfigError, ProtocolError

ENV_URL = "EDIT_AGENT_URL"
_METADATA_PAUSE = 2.0
_MOST_OUTPUT = 1 << 20


class LinuxHost:
    """Starts and stops real processes. Used by one thread."""

    def __init__(self, settings: Settings, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._command = [_of_the_image(command[0]), *command[1:]]
        self._environment = dict(environment)
        self._freezer = processes.Freezer()
        self._workload: subprocess.Popen[bytes] | None = None
        self._job: subprocess.Popen[bytes] | None = None
        self._output = -1

    def start_workload(self) -> int:
        """Start the workload in its directory, in a session and process group of its own, as its user."""
        settings, user = self._settings, self._settings.user
        environment = {k: v for k, v in self._environment.items() if k not in settings.hidden}
        self._workload = subprocess.Popen(
            self._command,
            cwd=os.fspath(settings.workdir),
            env=environment | {"PWD": os.fspath(settings.workdir)},
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        return self._workload.pid

    def signal_workload(self, pid: int, number: int) -> None:
        """Send a signal to the workload's process group."""
        processes.signal_group(pid, number)

    def start_job(self, kind: JobKind, seconds: float) -> int:
        """Start a restore or save as a process of its own, so that it can be killed whatever it waits for."""
        command = ["restore"] if kind is JobKind.RESTORE else ["save"]
        if kind is JobKind.CHECKPOINT:
            command.append("--trust-last")
        self._output = os.memfd_create("output")
        self._job = subprocess.Popen(
            self_command(*command, "--seconds", f"{seconds:.3f}"),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            start_new_session=True,
        )
        return self._job.pid

    def kill_job(self, pid: int) -> None:
        """Kill a helper's whole session."""
        processes.kill_session(pid)

    def freeze(self) -> int:
        """Stop everything below us but the helper."""
        return self._freezer.freeze({self._job.pid} if self._job else ())

    def thaw(self) -> None:
        """Continue it."""
        self._freezer.thaw()

    def collect(self, supervisor: Supervisor) -> None:
        """Collect every child that ended; orphans that came to us as well."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = exit_status(status)
            if self._workload is not None and pid == self._workload.pid:
                self._workload.returncode = code
                supervisor.on_workload_exit(code)
            elif self._job is not None and pid == self._job.pid:
                self._job.returncode = code
                supervisor.on_job_exit(pid, self._result(code))

    def _result(self, code: int) -> Result:
        """Return what the helper printed, and end what it may have left running."""
        assert self._job is not None
        processes.kill_session(self._job.pid)
        self._job = None
        text = os.pread(self._output, _MOST_OUTPUT, 0)
        os.close(self._output)
        try:
            body = json.loads(text)
            if "state" not in body:
                log("restored", **body)
                return Result(code == 0)
            return Result(code == 0, receipt_from_json(body))
        except (ValueError, TypeError, ProtocolError):
            return Result(code == 0 and not text)


def _of_the_image(program: str) -> str:
    """Return the program by a path that holds in the workload's directory, too.

    `./serve` is the image's, in its WORKDIR: there, where we were started. In the workspace it would be the user's.
    """
    return str(Path(program).absolute()) if "/" in program else program


class _Wakeup:
    """A pipe that signals and wishes are written to, and that the loop waits on."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*ENDS, *FORWARDED, signal.SIGCHLD):
            signal.signal(number, _noted)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)

    def wake(self) -> None:
        """End the wait; a full pipe does so already."""
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return

    def wait(self, seconds: float) -> list[int]:
        """Return the signals that came, after so long at the latest."""
        self._selector.select(seconds)
        try:
            return [number for number in self._reader.recv(4096) if number]
        except BlockingIOError:
            return []


def _noted(number: int, frame: object) -> None:
    """Do nothing here: the signal's number is in the wake-up pipe."""


def run(settings: Settings, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the workload until the container ends, and return its exit status."""
    processes.hide_memory()
    processes.adopt_orphans()
    control = Control(settings, SYSTEM)
    wakeup = _Wakeup()
    control.set_wake(wakeup.wake)
    url = _serve(settings, control)
    told = dict(environment) | ({ENV_URL: url} if url else {})
    host = LinuxHost(settings, command, told)
    try:
        return _loop(Supervisor(settings, control, host, SYSTEM), host, wakeup)
    except Exception:  # the end of this process is the end of the container, saved or not
        log("crashed", trace=traceback.format_exc())
        return _last_resort(settings, told)
    finally:
        processes.kill_descendants()


def _loop(supervisor: Supervisor, host: LinuxHost, wakeup: _Wakeup) -> int:
    while supervisor.exit_code is None:
        for number in wakeup.wait(supervisor.tick()):
            supervisor.on_signal(number)
        host.collect(supervisor)
    return supervisor.exit_code


def _last_resort(settings: Settings, environment: Mapping[str, str]) -> int:
    """Save once more, whatever state we are in."""
    seconds = settings.save_budget
    command = self_command("save", "--seconds", f"{seconds:.3f}")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, timeout=seconds + 2.0, check=False)
        return EXIT_CRASHED if done.returncode == 0 else EXIT_NOT_SAVED
    return EXIT_NOT_SAVED


def _serve(settings: Settings, control: Control) -> str:
    """Listen where the workload and the controller will ask; return the workload's address."""
    if settings.port is None:
        return ""
    server = Server(control, settings.token_sha256)
    local = settings.address if settings.address.startswith("127.") else LOOPBACK
    try:
        port = server.listen(local, settings.port, local=True)
        if settings.address and settings.address != local:
            server.listen(settings.address, settings.port, local=False)
    except OSError as e:
        raise ConfigError(
            f"port {settings.port} cannot be listened on", e.strerror or str(e), f"choose another {ENV_PORT}"
        ) from e
    if settings.metadata_uri and not (settings.task_arn and settings.address):
        threading.Thread(target=_learn, args=(settings, control, server), daemon=True).start()
    return f"http://{local}:{port}"


def _learn(settings: Settings, control: Control, server: Server) -> None:
    """Ask ECS who we are until it says so; the address may come later than the ARN."""
    listening = bool(settings.address)
    known = False
    pause = threading.Event()
    while not (known and listening):
        task = metadata.ask(settings.metadata_uri)
        if task.arn:
            control.set_task(task.arn)
            known = True
        if task.address and not listening and settings.port is not None:
            try:
                server.listen(task.address, settings.port, local=False)
                listening = True
            except OSError as e:
                log("cannotListen", address=task.address, error=str(e))
        pause.wait(_METADATA_PAUSE)
