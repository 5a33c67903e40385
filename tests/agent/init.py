"""`edit-agent run` as process 1 of a PID namespace of its own, as in a container."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controller.agent import protocol
from controller.agent.client import AgentClient, Target
from controller.agent.git import self_command
from controller.agent.processes import Process, descendants
from controller.core.identity import ContainerIdentity
from tests.agent.world import Container, until

IN_CI = bool(os.environ.get("CI"))
SECRET = b"channel-secret"
ARN = "arn:aws:ecs:eu-west-1:1:task/c/abc"
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


@functools.cache
def why_not() -> str:
    """Return why no PID namespace can be made here, empty when one can."""
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not installed"
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no PID namespace can be made: {done.stderr.strip()}"


def need_namespace() -> None:
    """Skip where there are no PID namespaces; in CI that is a failure, since nobody would notice the skip."""
    if reason := why_not():
        message = f"{reason}. Run as root, or in a container with CAP_SYS_ADMIN."
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@dataclass
class Init:
    """A container's first process and everything below it."""

    container: Container
    script: str
    environment: dict[str, str] = field(default_factory=dict)
    channel: bool = False
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        need_namespace()
        self.log_path = self.container.root / "agent.log"
        self.port = free_port() if self.channel else 0
        environment = self.container.env(**self.environment)
        if self.channel:
            environment |= protocol.channel_environment(SECRET, self.identity, 3, self.port)
            environment |= {"EDIT_GENERATION": "3", "EDIT_TASK_ARN": ARN, **self.environment}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*UNSHARE, *self_command("run", "--", "/bin/sh", "-c", self.script)],
                env=environment,
                cwd=self.container.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Init:
        return self

    def __exit__(self, *_: object) -> None:
        """End the namespace: killing its process 1 kills all of it."""
        if self.process.poll() is None:
            pid = self.pid_or_none()
            if pid:
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    @property
    def identity(self) -> ContainerIdentity:
        return ContainerIdentity("acme", "site", "ann@acme.io")

    @property
    def client(self) -> AgentClient:
        return AgentClient({"k1": SECRET}, self.port)

    @property
    def target(self) -> Target:
        return Target(self.identity, "127.0.0.1", ARN, 3, "k1")

    def pid_or_none(self) -> int | None:
        """Return process 1 of the namespace, as it is called from outside."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(text.split()[0]) if text.split() else None

    @property
    def pid(self) -> int:
        until(self.pid_or_none, what="process 1 is there")
        pid = self.pid_or_none()
        assert pid is not None
        return pid

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Signal process 1 from outside, as ECS does."""
        os.kill(self.pid, number)

    def exit_code(self, seconds: float = 30) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(seconds)

    def log(self) -> list[dict[str, Any]]:
        """Return the events so far."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a kind so far."""
        return [each for each in self.log() if each["event"] == name]

    def await_event(self, name: str, count: int = 1, seconds: float = 30) -> dict[str, Any]:
        """Wait until an event was logged so often, and return it."""
        until(lambda: len(self.events(name)) >= count, seconds, f"event {name}: {self.log_path.read_text()[-2000:]}")
        return self.events(name)[count - 1]

    def await_file(self, name: str, content: str = "", seconds: float = 30) -> None:
        """Wait for a file of the workspace, and for its content if some is given."""
        path = self.container.workspace / name
        until(
            lambda: path.exists() and content in path.read_text(),
            seconds,
            f"{name}: {self.log_path.read_text()[-2000:]}",
        )

    def below(self) -> list[Process]:
        """Return the processes of the namespace but its first."""
        return list(descendants(self.pid))
