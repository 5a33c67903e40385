"""Everything real at once: ECS tasks that are processes, agents in them, git, and `editctl run` beside it.

What the scenarios prove on a clock of their own is seen here once with the parts that will do it.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.agent.client import AgentClient, Target, Unknown
from controller.agent.git import self_command
from controller.agent.protocol import (
    ENV_TOKEN_SHA256,
    PATH_SESSIONS,
    AgentPhase,
    AgentStatus,
    DrainState,
    channel_token,
    token_digest,
)
from controller.assembly import Assembly
from controller.cli.story.traffic import Traffic
from controller.config import Config
from controller.core.identity import ContainerIdentity, generation_from_environment
from controller.core.model import MINUTE, SUPERSEDED_DRAIN, ContainerRecord, ContainerStatus
from controller.local.describe import LaunchedTask
from controller.local.ecs import Timings
from controller.local.processes import Fitting, ProcessRunner
from controller.local.server import LocalEndpoint, system_clock
from tests.agent.world import TREE, Remote, files_of, git, until

ANN = ContainerIdentity("acme", "site", "ann@acme.io")
WIP = "refs/heads/edit/acme-site-ann@acme.io/wip"
PATIENCE = 60
"""Seconds that one step may take on a busy machine."""

WORKLOAD = """
import json, os, pathlib, threading
work, home = pathlib.Path(os.environ["WORKSPACE_PATH"]), pathlib.Path(os.environ["HOME"])
if os.environ["EDIT_GENERATION"] == "1":
    (work / "notes.bin").write_bytes(bytes(range(256)) + b"a\\r\\nb\\n")
    (work / "run.sh").write_text("#!/bin/sh\\n")
    (work / "run.sh").chmod(0o755)
    (work / "deep" / "er").mkdir(parents=True)
    (work / "deep" / "er" / "d\\u00e9j\\u00e0 vu").write_text("")
    (work / "link").symlink_to("deep/er")
    (work / "README.md").write_text("hello again\\n")
started = home / "started.new"
started.write_text(json.dumps(dict(os.environ)))
started.rename(home / "started")
pause = threading.Event()
while True:
    if (home / "question").exists():
        (work / "answer").write_bytes((home / "question").read_bytes())
        (home / "question").rename(home / "answered")
    pause.wait(0.02)
"""
"""Writes its files at the first launch; then copies each question into the workspace, to show that it is at work."""

pytestmark = pytest.mark.timeout(180)


class World:
    """One installation, its endpoint in this process, its controller and its containers in processes of their own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.remote = _remote_with_a_commit(root)
        self.secret = secrets.token_hex(32)
        (root / "secret").write_text(self.secret)
        (root / "workload.py").write_text(WORKLOAD)
        self.traffic = Traffic()
        self.runner = ProcessRunner(root / "tasks", self._fitting, system_clock)
        self.endpoint = LocalEndpoint(
            timings=Timings(0.1, 0.1, 0.1, 0.1, 0.1, 0.1), observer=self.runner, on_request=self.traffic
        )
        self.port = _free_port()
        self.settings = {
            "agent_port": str(self.port),
            "channel_secret_file": str(root / "secret"),
            "idle_timeout": "10s",
            "metrics_address": "off",
            "poll": "1s",
            "security_groups": "sg-1",
            "subnets": "subnet-1",
        }
        self.config = Config.model_validate(self.settings)
        self.assembly = Assembly(self.config, local=True)
        self.agents = AgentClient(self.config.channel_keys(), self.port)
        self._controller: subprocess.Popen[bytes] | None = None

    def _fitting(self, task: LaunchedTask, directory: Path) -> Fitting:
        """Return what an image and its task definition would say."""
        workload = (sys.executable, "-I", "-S", str(self.root / "workload.py"))
        return Fitting(
            self_command("run", "--", *workload),
            {
                "EDIT_AGENT_ADDRESS": task.address or "",
                "EDIT_ALLOWED_OUTAGE": "10m",
                "EDIT_REMOTE": str(self.remote.path),
                "EDIT_RESERVE": "0",
                "EDIT_STATE_DIR": str(directory / "state"),
                "EDIT_STOP_TIMEOUT": str(task.stop_timeout),
                "WORKSPACE_PATH": str(directory / "workspace"),
            },
        )

    def begin(self) -> None:
        """Start the endpoint and the controller."""
        self.endpoint.start()
        self.runner.drive(self.endpoint.ecs)
        self.assembly.create_tables()
        with self.controller_log.open("wb") as output:
            self._controller = subprocess.Popen(
                [sys.executable, "-m", "controller.cli", "run", "--log-format", "json"],
                env={**os.environ, **{f"EDITCTL_{name.upper()}": value for name, value in self.settings.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def end(self) -> None:
        """End all of it."""
        self.traffic.let_go()
        if self._controller is not None and self._controller.poll() is None:
            self._controller.send_signal(signal.SIGKILL)
            self._controller.wait()
        self.runner.close()
        self.endpoint.close()

    def end_controller(self) -> int:
        """End the controller in order and return its exit status."""
        assert self._controller is not None
        self._controller.send_signal(signal.SIGTERM)
        return self._controller.wait(PATIENCE)

    @property
    def controller_log(self) -> Path:
        return self.root / "controller.log"

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something; fail with everything that was logged."""
        try:
            until(condition, PATIENCE, what)
        except AssertionError as e:
            e.add_note(self.logs())
            raise

    def logs(self) -> str:
        """Return every line that controller, agents and workloads wrote."""
        files = [self.controller_log, *sorted((self.root / "tasks").glob("*/log"))]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    # What there is

    def record(self) -> ContainerRecord:
        return self.assembly.tables.get_record(ANN.container_id) or ContainerRecord(ANN.container_id)

    def is_in(self, status: ContainerStatus, generation: int) -> bool:
        record = self.record()
        return record.status is status and record.generation == generation

    def task(self, generation: int) -> dict[str, Any]:
        """Return the task of a launch as ECS describes it; there is one."""
        (task,) = (t for t in self.endpoint.ecs.snapshot() if generation_from_environment(variables(t)) == generation)
        return task

    def has_task(self, generation: int) -> bool:
        return any(generation_from_environment(variables(t)) == generation for t in self.endpoint.ecs.snapshot())

    def directory(self, generation: int) -> Path:
        return self.runner.directory(self.task(generation)["taskArn"])

    def files(self, generation: int) -> TREE:
        return files_of(self.directory(generation) / "workspace")

    def token(self, generation: int) -> str:
        return channel_token(self.secret.encode(), ANN, generation)

    def agent(self, generation: int) -> AgentStatus | None:
        """Return what the agent says, None while it says nothing."""
        task = self.task(generation)
        (key_id,) = self.config.channel_keys()
        answer = self.agents.status(Target(ANN, address_of(task), task["taskArn"], generation, key_id))
        return None if isinstance(answer, Unknown) else answer

    def is_in_phase(self, phase: AgentPhase, generation: int) -> bool:
        status = self.agent(generation)
        return status is not None and status.phase is phase

    def sessions_inside(self, generation: int) -> list[str]:
        """Return the sessions that the workload would be told if it asked."""
        connection = http.client.HTTPConnection(address_of(self.task(generation)), self.port, timeout=5)
        try:
            connection.request("GET", PATH_SESSIONS)
            return [session["id"] for session in json.loads(connection.getresponse().read())["sessions"]]
        finally:
            connection.close()

    # What happens

    def works(self, generation: int) -> bool:
        """Tell whether the workload has started."""
        return (self.directory(generation) / "started").exists()

    def ask(self, question: str, generation: int) -> Callable[[], bool]:
        """Give the workload something to do; return what tells whether it was done."""
        directory = self.directory(generation)
        (directory / "question.new").write_text(question)
        (directory / "question.new").rename(directory / "question")
        return lambda: not (directory / "question").exists()

    def date_back(self, session_id: str, by: int) -> None:
        """Let the last activity of the session and of its container have been some time ago: clocks get a minute."""
        names = self.assembly.names
        keys = {names.containers: ("containerId", ANN.container_id), names.sessions: ("sessionId", session_id)}
        for table, (name, value) in keys.items():
            self.assembly.clients.dynamodb.update_item(
                TableName=table,
                Key={name: {"S": value}},
                UpdateExpression="SET lastActivity = :at",
                ConditionExpression=f"attribute_exists({name})",
                ExpressionAttributeValues={":at": {"N": str(system_clock() - by)}},
            )

    def start_working(self, generation: int) -> None:
        """Wait until a launch has come up."""
        self.until(lambda: self.is_in(ContainerStatus.RUNNING, generation), f"generation {generation} runs")
        self.until(lambda: self.works(generation), "the workload")


def variables(task: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that a launch has overridden, which everybody may read who may describe a task."""
    (container,) = task["overrides"]["containerOverrides"]
    return {pair["name"]: pair["value"] for pair in container["environment"]}


def address_of(task: Mapping[str, Any]) -> str:
    """Return the task's private address."""
    details = {d["name"]: d["value"] for attachment in task["attachments"] for d in attachment["details"]}
    return str(details.get("privateIPv4Address", ""))


def _remote_with_a_commit(root: Path) -> Remote:
    remote = Remote.make(root / "remote.git")
    git(root, "clone", "--quiet", "--template=", str(remote.path), "first")
    (root / "first" / "README.md").write_text("hello\n")
    git(root / "first", "add", ".")
    git(root / "first", "commit", "--quiet", "-m", "first")
    git(root / "first", "push", "--quiet", "origin", "main")
    return remote


def _free_port() -> int:
    """Return a port that is free on the first tasks' address; the other addresses have no other users."""
    with socket.socket() as probe:
        probe.bind(("127.1.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", world.endpoint.url)
    try:
        world.begin()
        yield world
    finally:
        world.end()


def test_a_container_lives_is_saved_and_comes_back_as_it_was(world: World) -> None:
    registry = world.assembly.registry()

    # Nothing works before the record names the task: what the agent knows by itself is not enough.
    world.traffic.hold("RunTask")
    registry.open("s1", ANN)
    world.until(lambda: world.has_task(1), "a launch")
    world.until(lambda: world.is_in_phase(AgentPhase.WAITING, 1), "an agent that is ready")
    assert world.record().task_arn is None
    waiting = world.agent(1)
    assert waiting is not None
    assert not waiting.admitted
    assert not world.works(1)
    world.traffic.let_go()

    world.start_working(1)
    first, running = world.task(1), world.record()
    assert (running.task_arn, running.container_ip) == (first["taskArn"], address_of(first))
    world.until(lambda: world.sessions_inside(1) == ["s1"], "the session inside")
    assert no_secret_is_told(world, 1)

    # Idle: drained, saved, stopped.
    left = world.files(1)
    world.date_back("s1", 5 * MINUTE)
    world.until(lambda: world.is_in(ContainerStatus.TERMINATED, 1), "the end of the first")
    record = world.record()
    assert record.save is not None
    assert record.save.state == "saved"
    assert record.save.branch in (WIP, WIP.removeprefix("refs/heads/"))
    assert record.save.commit == record.save.remote_commit == world.remote.refs()[WIP]
    assert world.remote.tree(WIP) == left
    assert left[b"notes.bin"] == ("100644", bytes(range(256)) + b"a\r\nb\n")
    assert world.remote.fsck() == ""
    stopped = world.task(1)
    assert (stopped["stopCode"], stopped["containers"][0]["exitCode"]) == ("UserInitiated", 0)
    assert world.runner.pid(first["taskArn"]) is None
    assert (record.task_arn, record.container_ip) == (None, None)

    # Wanted again: another container, the same work.
    registry.touch("s1")
    world.start_working(2)
    assert world.files(2) == left
    assert git(world.directory(2) / "workspace", "status", "--porcelain", "README.md") == "M README.md"
    assert world.record().task_arn == world.task(2)["taskArn"] != first["taskArn"]
    assert no_secret_is_told(world, 2)
    assert len(world.endpoint.ecs.snapshot()) == 2
    assert world.end_controller() == 0


def test_a_user_who_comes_back_while_it_is_saved_finds_it_at_work(world: World) -> None:
    pushing, go = world.root / "pushing", world.root / "go"
    world.remote.hook("pre-receive", f"touch {pushing}; while [ ! -e {go} ]; do sleep 0.05; done")
    registry = world.assembly.registry()
    registry.open("s1", ANN)
    world.start_working(1)
    arn = world.task(1)["taskArn"]
    world.until(world.ask("before", 1), "it works")

    world.date_back("s1", 5 * MINUTE)
    world.until(pushing.exists, "a save that has begun to push")
    assert world.is_in(ContainerStatus.DRAINING, 1)
    assert world.is_in_phase(AgentPhase.FROZEN, 1)
    answered = world.ask("during", 1)

    registry.touch("s1")
    world.until(lambda: world.is_in(ContainerStatus.RUNNING, 1), "the way back")
    world.until(answered, "it works again")
    assert world.is_in_phase(AgentPhase.RUNNING, 1)
    thawed = world.agent(1)
    assert thawed is not None
    assert thawed.cancelled_up_to == 1
    assert not go.exists(), "all of this while the first save was held up"
    assert world.task(1)["desiredStatus"] == "RUNNING"

    # The receipt that comes now is that of a cancelled drain. Nothing follows from it; the next one has its own save.
    go.touch()
    world.until(lambda: WIP in world.remote.refs(), "the end of the first save")
    assert world.remote.tree(WIP)[b"answer"][1] == b"before"
    assert world.is_in(ContainerStatus.RUNNING, 1)
    world.date_back("s1", 5 * MINUTE)
    world.until(lambda: world.is_in(ContainerStatus.TERMINATED, 1), "the end")
    record = world.record()
    assert record.save is not None
    assert (record.save.state, record.save.commit) == ("saved", world.remote.refs()[WIP])
    assert record.drain is not None
    assert record.drain.id == 2
    assert world.remote.tree(WIP) == world.files(1)
    assert world.remote.tree(WIP)[b"answer"][1] == b"during"
    stopped = world.task(1)
    assert (stopped["taskArn"], stopped["containers"][0]["exitCode"]) == (arn, 0)


def test_a_task_that_the_record_has_passed_by_is_saved_before_it_is_stopped_and_before_another_starts(
    world: World,
) -> None:
    pushing, go = world.root / "pushing", world.root / "go"
    world.remote.hook("pre-receive", f"touch {pushing}; while [ ! -e {go} ]; do sleep 0.05; done")
    world.assembly.registry().open("s1", ANN)
    world.start_working(1)
    world.until(world.ask("in the second task", 1), "it works")
    second = world.task(1)["taskArn"]

    # A foreign hand puts a whole record over it: which key launched the task is nowhere but in the task itself.
    whole = {"containerId": ANN.container_id, "clientId": "acme", "projectId": "site", "userId": "ann@acme.io"}
    numbers = {"generation": 1, "sessionCount": 1, "lastActivity": system_clock()}
    world.assembly.clients.dynamodb.put_item(
        TableName=world.assembly.names.containers,
        Item={
            **{name: {"S": value} for name, value in (whole | {"containerStatus": "terminated"}).items()},
            **{name: {"N": str(value)} for name, value in numbers.items()},
        },
    )
    world.until(pushing.exists, "a save that has begun to push")
    status = world.agent(1)
    assert status is not None
    assert status.drain is not None
    assert (status.drain.id, status.drain.state, status.phase) == (
        SUPERSEDED_DRAIN,
        DrainState.SAVING,
        AgentPhase.FROZEN,
    )
    assert world.task(1)["desiredStatus"] == "RUNNING"
    assert not world.has_task(2)
    left = world.files(1)
    go.touch()

    world.start_working(2)
    stopped = world.task(1)
    assert (stopped["taskArn"], stopped["lastStatus"]) == (second, "STOPPED")
    assert (stopped["stopCode"], stopped["containers"][0]["exitCode"]) == ("UserInitiated", 0)
    assert stopped["stoppedReason"] == "editctl: Superseded, the record names none"
    assert world.files(2) == left
    assert left[b"answer"][1] == b"in the second task"
    assert world.end_controller() == 0


def no_secret_is_told(world: World, generation: int) -> bool:
    """Check that neither the channel's secret nor the token is where others can read; only a digest is."""
    secret, token = world.secret, world.token(generation)
    told = variables(world.task(generation))
    assert told[ENV_TOKEN_SHA256] == token_digest(token)
    inside = json.loads((world.directory(generation) / "started").read_text())
    assert ENV_TOKEN_SHA256 not in inside
    places = {
        "what ECS says": json.dumps(world.endpoint.ecs.snapshot()),
        "the workload's environment": json.dumps(inside),
        "the record": json.dumps(world.assembly.clients.dynamodb.scan(TableName=world.assembly.names.containers)),
        "a command line": " ".join(_command_lines()),
        "a log": world.logs(),
    }
    found = [place for place, text in places.items() if secret in text or token in text]
    assert not found
    assert "workloadStarted" in places["a log"], "the search looks at the right logs"
    assert str(world.root / "workload.py") in places["a command line"]
    return True


def _command_lines() -> Iterator[str]:
    """Yield what every process of this machine was started with."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
