"""ministack runs the tasks as real containers, by podman: what an image, a private address and a kill are like.

docs/agent.md says what is shown here and what is not.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.agent.protocol import ENV_TOKEN_SHA256, channel_token, token_digest
from controller.assembly import Assembly
from controller.config import Config
from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, ContainerRecord, ContainerStatus
from tests.agent.containers import (
    IMAGE,
    NETWORK,
    Controller,
    Engine,
    Metadata,
    image_python,
    make_image,
    own_network,
)
from tests.agent.world import Remote, git, until
from tests.contract import engines
from tests.contract.engines import Ministack
from tests.manifests.needs import ON_CI, missing
from tests.manifests.podman import CANNOT_BE_INSTALLED, podman_or_none

ANN = ContainerIdentity("acme", "site", "ann@acme.io")
WIP = "refs/heads/edit/acme-site-ann@acme.io/wip"
PORT = "8642"
"""The agents' port: each container has an address of its own."""
NOT_RUN = "tasks do not run as containers"
PATIENCE = 90
"""Seconds that one step may take on a busy machine."""
WORKLOAD = 'cd "$WORKSPACE_PATH" && echo "launch $EDIT_GENERATION" >>launches && exec sleep infinity'

pytestmark = pytest.mark.timeout(400)


class World:
    """One installation: ministack and podman for ECS, a bare repository for the remote, a controller."""

    def __init__(self, root: Path, engine: Engine, ministack: Ministack) -> None:
        self.engine = engine
        self.ministack = ministack
        self.remote = Remote.make(root / "remote.git")
        self.secret = secrets.token_hex(32)
        (root / "secret").write_text(self.secret)
        self.settings = {
            "agent_port": PORT,
            "channel_secret_file": str(root / "secret"),
            "idle_timeout": "10s",
            "metrics_address": "off",
            "poll": "1s",
            "security_groups": "sg-1",
            "subnets": "subnet-1",
        }
        self.assembly = Assembly(Config.model_validate(self.settings), local=True)
        self._log = root / "controller.log"
        self._first_commit(root / "first")
        self._define()
        self.assembly.create_tables()
        self.controller = Controller(self._log, self.settings)

    def _first_commit(self, clone: Path) -> None:
        git(clone.parent, "clone", "--quiet", "--template=", str(self.remote.path), clone.name)
        (clone / "README.md").write_text("hello\n")
        git(clone, "add", ".")
        git(clone, "commit", "--quiet", "-m", "first")
        git(clone, "push", "--quiet", "origin", "main")

    def _define(self) -> None:
        """Register what the deployment registers, with the remote as a folder of this machine."""
        environment = {
            "EDIT_CHECKPOINT_INTERVAL": "2s",
            "EDIT_REMOTE": "/remote",
            "EDIT_RESERVE": "0",
            # ministack kills five seconds after SIGTERM.
            "EDIT_STOP_TIMEOUT": "5s",
            "EDIT_WORKLOAD_GRACE": "1s",
        }
        container = {
            "name": "edit-container",
            "image": IMAGE,
            "essential": True,
            "command": ["sh", "-c", WORKLOAD],
            "environment": [{"name": name, "value": value} for name, value in environment.items()],
            "mountPoints": [{"sourceVolume": "remote", "containerPath": "/remote"}],
        }
        self.assembly.clients.ecs.register_task_definition(
            family="webordinary-edit",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            volumes=[{"name": "remote", "host": {"sourcePath": str(self.remote.path)}}],
            containerDefinitions=[container],
        )

    # What there is

    def record(self) -> ContainerRecord:
        return self.assembly.tables.get_record(ANN.container_id) or ContainerRecord(ANN.container_id)

    def is_in(self, status: ContainerStatus, generation: int) -> bool:
        record = self.record()
        return record.status is status and record.generation == generation

    def end_of(self, arn: str) -> tuple[str, int]:
        """Return stop code and exit code of a task, as ECS describes it."""
        (task,) = self.assembly.clients.ecs.describe_tasks(cluster="webordinary", tasks=[arn])["tasks"]
        return task["stopCode"], task["containers"][0]["exitCode"]

    def container(self) -> str:
        """Return the container of the task that the record names."""
        return self.engine.container_of(self.record().task_arn or "")

    def workspace(self, script: str) -> str:
        """Run a script in the workspace, as somebody who works there."""
        return self.engine.inside(self.container(), f'cd "$WORKSPACE_PATH" && {script}')

    def saved(self, name: bytes) -> bytes | None:
        """Return a file as the remote has it."""
        if WIP not in self.remote.refs():
            return None
        return self.remote.tree(WIP).get(name, ("", None))[1]

    # What happens

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something; fail with everything that was logged."""
        try:
            until(condition, PATIENCE, what)
        except AssertionError as e:
            e.add_note("\n".join((self.controller.log(), self.engine.log(), self.ministack.log())))
            raise

    def start_working(self, generation: int) -> None:
        self.until(lambda: self.is_in(ContainerStatus.RUNNING, generation), f"generation {generation} runs")
        self.until(lambda: f"launch {generation}" in self.workspace("cat launches || true"), "the workload")

    def date_back(self) -> None:
        """Let the container's last activity have been some time ago: writers' clocks get a minute."""
        self.assembly.clients.dynamodb.update_item(
            TableName=self.assembly.names.containers,
            Key={"containerId": {"S": ANN.container_id}},
            UpdateExpression="SET lastActivity = :at REMOVE emptySince",
            ExpressionAttributeValues={":at": {"N": str(time.time_ns() // 1_000_000 - 5 * MINUTE)}},
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return the installation. Whatever happens, its containers, images and addresses go with the test."""
    if not engines.PYTHON.exists():
        engines.missing(in_ci=engines.IN_CI)
    if image_python() < (3, 11):
        missing(NOT_RUN, "the image gets this machine's /usr/bin/python3, which has to be 3.11 or newer")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(own_network())
        except OSError as e:
            todo = "run as root, or in a container with CAP_SYS_ADMIN"
            missing(f"{NOT_RUN}: {e.strerror}", todo, must=ON_CI and not CANNOT_BE_INSTALLED)
        podman = stack.enter_context(podman_or_none(tmp_path, NOT_RUN, NETWORK))
        make_image(podman)
        engine = Engine(podman)
        stack.callback(engine.close)
        ministack = Ministack(tmp_path, engine.socket)
        stack.callback(ministack.close)
        stack.callback(Metadata(ministack.port).close)
        monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.url)
        world = World(tmp_path, engine, ministack)
        stack.callback(world.controller.kill)
        yield world


def test_a_container_works_is_killed_comes_back_and_is_saved_when_idle(world: World) -> None:
    registry = world.assembly.registry()
    registry.open("s1", ANN)
    world.start_working(1)
    first = world.record()
    assert first.container_ip is not None
    assert first.container_ip.startswith("10.88.")
    one = world.container()
    assert world.engine.containers() == [one]
    assert no_secret_is_told(world, one)

    # Somebody works, and a checkpoint takes it to the remote.
    assert world.workspace("cat README.md") == "hello"
    world.workspace("printf 'a\\r\\n\\0b' >kept && echo more >>README.md")
    world.workspace("mkdir -p deep/er && echo draft >deep/er/note")
    world.until(lambda: world.saved(b"deep/er/note") == b"draft\n", "a checkpoint")

    # The machine fails. The next container has what the last save had, as uncommitted changes.
    world.engine.kill(one)
    world.start_working(2)
    second = world.record()
    assert second.task_arn != first.task_arn
    assert world.end_of(first.task_arn or "") == ("EssentialContainerExited", 137)
    two = world.container()
    assert world.engine.inside(two, 'printf "%s" "$EDIT_GENERATION"') == "2"
    assert world.workspace("cat launches") == "launch 1\nlaunch 2"
    assert world.workspace("od -An -c kept").split() == ["a", r"\r", r"\n", r"\0", "b"]
    assert world.workspace("cat deep/er/note README.md") == "draft\nhello\nmore"
    assert world.workspace("git status --porcelain README.md") == "M README.md"

    # Idle: what was done last is saved, too, and then it is stopped.
    world.workspace("echo last >>deep/er/note")
    registry.release("s1")
    world.date_back()
    world.until(lambda: world.is_in(ContainerStatus.TERMINATED, 2), "the end")
    record = world.record()
    assert record.save is not None
    assert record.save.state == "saved"
    assert record.save.commit == record.save.remote_commit == world.remote.refs()[WIP]
    assert world.saved(b"deep/er/note") == b"draft\nlast\n"
    assert world.saved(b"kept") == b"a\r\n\0b"
    assert world.saved(b"launches") == b"launch 1\nlaunch 2\n"
    assert world.remote.fsck() == ""
    assert (record.task_arn, record.container_ip, record.session_count) == (None, None, 0)
    world.until(lambda: two not in world.engine.containers(), "the end of the container itself")
    assert world.controller.end() == 0, world.controller.log()


def no_secret_is_told(world: World, container: str) -> bool:
    """Tell whether a container's environment has the digest that its own launch may show, and no token or secret."""
    token = channel_token(world.secret.encode(), ANN, 1)
    told = world.engine.environment_of(container)
    text = "\n".join(told)
    return f"{ENV_TOKEN_SHA256}={token_digest(token)}" in told and world.secret not in text and token not in text
