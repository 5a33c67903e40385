"""One account with a fleet that is at rest, on virtual time, and the real controller that looks after it."""

from __future__ import annotations

import gc
import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from controller import telemetry
from controller.assembly import Assembly
from controller.aws.rows import session_item, to_iso, to_item, to_value, triple
from controller.aws.schema import TableNames
from controller.aws.tasks import EcsSettings, Tasks
from controller.config import Config
from controller.core.identity import ContainerIdentity
from controller.core.model import HOUR, MINUTE, SECOND, Millis, Session
from controller.core.policy import Policy
from controller.core.reads import Hint
from controller.local.ecs import StrictEcs
from controller.metrics import Health, Metrics
from controller.reconcile.due import Due
from controller.reconcile.loop import Loop
from tests.bench.dynamodb import DynamoDb, item_size
from tests.bench.quotas import Quotas
from tests.bench.virtual import VirtualTime
from tests.bench.wire import REGION, Wire
from tests.fakes.ecs_client import StrictEcsClient

CLUSTER = "webordinary"
DEFINITION = {
    "family": "webordinary-edit",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
    "cpu": "1024",
    "memory": "2048",
    "containerDefinitions": [{"name": "edit-container", "image": "edit", "essential": True}],
}
SETTINGS = EcsSettings(cluster=CLUSTER, subnets=("subnet-0a1b2c3d",), security_groups=("sg-0a1b2c3d",), region=REGION)
ROW_BYTES = 512
QUEUES = "https://sqs.eu-west-1.amazonaws.com/123456789012"
TOUCHED_EVERY: Millis = 5 * MINUTE
LIST_LAG: Millis = SECOND
DESCRIBE_LAG: Millis = SECOND // 2
FLEET_AGE_SECONDS = 2 * 3_600


@dataclass
class Usage:
    """What was used in a stretch of time."""

    seconds: float
    """Virtual ones."""
    cpu: float
    looks: int
    read_units: float
    dynamodb_calls: int
    ecs_calls: dict[str, int] = field(default_factory=dict)
    """Admitted and throttled ones."""
    throttled: dict[str, int] = field(default_factory=dict)
    longest_stretch: float = 0
    """CPU seconds between two calls or waits."""

    @property
    def ecs_total(self) -> int:
        return sum(self.ecs_calls.values())


class Wakeful:
    """A wait in virtual time that ends early when somebody wakes it."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.virtual = virtual
        self._woken = False

    def wake(self) -> None:
        """End the wait; from what happens while somebody waits, too."""
        self._woken = True
        self.virtual.tell_news()

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until somebody wakes it."""
        until = self.virtual.now + max(round(seconds * SECOND), 0)
        if seconds > 0:
            self.virtual.at(until, self.virtual.tell_news)
        while not self._is_awake() and self.virtual.now < until:
            self.virtual.wait_for_news()
        self._woken = False

    def _is_awake(self) -> bool:
        return self._woken


class Until(Wakeful):
    """Asks a loop to stop at a time."""

    def __init__(self, virtual: VirtualTime, end: Millis) -> None:
        super().__init__(virtual)
        self.requested = False
        self._end = end
        virtual.at(end, self._ask)

    def _ask(self) -> None:
        self.requested = True

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the end."""
        self.sleep(min(seconds, (self._end - self.virtual.now) / SECOND))


class AfterOneTurn:
    """Asks a loop to stop at its first wait."""

    requested = False

    def wait(self, _: float) -> None:
        """Ask for it."""
        self.requested = True

    def wake(self) -> None:
        """Nobody waits."""


class HintsAtOnce:
    """Hints that come in the moment in which something is written, and are never lost."""

    fresh = True

    def answered(self, hints: tuple[Hint, ...]) -> None:
        """There is no message to delete."""


class World:
    """Tables, ECS with its quotas, and whoever writes sessions."""

    def __init__(self, seed: int = 1, *, charge_cpu: bool = True) -> None:
        self.random = random.Random(seed)
        # boto3 draws the pauses between its tries from here.
        random.seed(seed)
        self.policy = Policy()
        self.virtual = VirtualTime(charge_cpu=charge_cpu)
        self.dynamodb = DynamoDb(TableNames())
        self.quotas = Quotas(self.virtual.now)
        self.ecs = StrictEcs(lambda: self.virtual.now, admit=self.quotas.admit, region=REGION, network="127.0.0.0/8")
        self.wire = Wire(self.virtual, self.dynamodb, self.ecs)
        self.active: list[ContainerIdentity] = []
        self._sessions: dict[str, str] = {}
        self._arns: dict[str, str] = {}
        self._began = self.virtual.now
        self._due: Due | None = None

    @contextmanager
    def running(self) -> Iterator[World]:
        """Put virtual time and these services under the code."""
        with (
            self.wire.installed(),
            mock.patch("controller.reconcile.apply.ThreadPoolExecutor", self.virtual.pool),
            mock.patch("controller.aws.tables.ThreadPoolExecutor", self.virtual.pool),
            _log_to_nowhere(),
        ):
            yield self

    # The fleet

    def populate(self, rows: int, tasks: int) -> None:
        """Make so many containers with an open session each; so many are in use and run, the others rest."""
        self.quotas.enabled = False
        self.ecs.call("CreateCluster", {"clusterName": CLUSTER})
        self.ecs.call("RegisterTaskDefinition", DEFINITION)
        launcher = Tasks(StrictEcsClient(self.ecs), SETTINGS, lambda: self.virtual.now)
        owners = [nth_identity(number) for number in range(rows)]
        self.active = sorted(self.random.sample(owners, tasks))
        launched = {}
        for owner in self.active:
            request = launcher.prepare(owner, 1, self.virtual.now)
            launched[owner] = request, str(launcher.run(request).arn)
        began = self.virtual.now
        # An idle clock never starts before the launch.
        self.virtual.sleep(FLEET_AGE_SECONDS)
        addresses = self._addresses([arn for _, arn in launched.values()])
        for owner in owners:
            if owner in launched:
                request, arn = launched[owner]
                self._arns[owner.container_id] = arn
                self._put_running(owner, request, arn, addresses[arn], began)
            else:
                self._put_resting(owner)
        self.quotas.enabled = True
        self.ecs.quirks.list_lag_ms = LIST_LAG
        self.ecs.quirks.describe_lag_ms = DESCRIBE_LAG
        self._touch_later()
        gc.collect()
        gc.freeze()
        self.restart()

    def _addresses(self, arns: list[str]) -> dict[str, str]:
        found = {}
        for start in range(0, len(arns), 100):
            asked = {"cluster": CLUSTER, "tasks": arns[start : start + 100]}
            for task in self.ecs.call("DescribeTasks", asked)["tasks"]:
                details = {d["name"]: d["value"] for a in task["attachments"] for d in a["details"]}
                found[task["taskArn"]] = details["privateIPv4Address"]
        return found

    def _put_running(self, owner: ContainerIdentity, request: str, arn: str, address: str, began: Millis) -> None:
        active = self.virtual.now - self.random.randrange(TOUCHED_EVERY)
        self._put_session(owner, active)
        record = {
            "containerId": owner.container_id,
            **triple(owner),
            "containerStatus": "running",
            "taskArn": arn,
            "containerIp": address,
            "sessionCount": 1,
            "createdAt": to_iso(began),
            "lastActivity": active,
            "generation": 1,
            "launch": {"requestedAt": began, "keyId": "", "request": request},
        }
        self.dynamodb.records.put(to_item(record))

    def _put_resting(self, owner: ContainerIdentity) -> None:
        quiet_since = self.virtual.now - 2 * HOUR - self.random.randrange(20 * HOUR)
        self._put_session(owner, quiet_since)
        drain = {"id": 1, "reason": "Idle", "requestedAt": quiet_since + 20 * MINUTE, "deadline": quiet_since + HOUR}
        record = {
            "containerId": owner.container_id,
            **triple(owner),
            "containerStatus": "terminated",
            "sessionCount": 1,
            "createdAt": to_iso(quiet_since - HOUR),
            "lastActivity": quiet_since,
            "generation": 1,
            "drain": {**drain, "stoppingAt": quiet_since + 21 * MINUTE, "confirmedAt": quiet_since + 21 * MINUTE},
        }
        self.dynamodb.records.put(to_item(record))

    def _put_session(self, owner: ContainerIdentity, at: Millis) -> None:
        session_id = f"session-{len(self._sessions):07d}"
        self._sessions[owner.container_id] = session_id
        queues = (f"{QUEUES}/edit-in-{session_id}", f"{QUEUES}/edit-out-{session_id}")
        item = session_item(Session(session_id, owner.container_id, owner, *queues, at, at), owner, at)
        # Rows of 0.5 kB, whatever the names come to.
        item["outputQueueUrl"]["S"] += "x" * max(ROW_BYTES - item_size(item), 0)
        self.dynamodb.sessions.put(item)

    # What users do

    def open(self, owner: ContainerIdentity) -> None:
        """Somebody opens a session now."""
        now = self.virtual.now
        self._put_session(owner, now)
        record = self._record(owner) or to_item({"containerId": owner.container_id, **triple(owner)})
        count = int(record.get("sessionCount", {"N": "0"})["N"])
        self.dynamodb.records.put({**record, "sessionCount": to_value(count + 1), "lastActivity": to_value(now)})
        self._hint(owner, self._sessions[owner.container_id])

    def release(self, owner: ContainerIdentity, at: Millis) -> None:
        """Somebody closes the session at a time; one in the past was seen at once by whoever was there then."""
        if at > self.virtual.now:
            self.virtual.at(at, lambda: self._release(owner, at, {}))
        else:
            self._release(owner, at, {"emptySince": at + SECOND})

    def _release(self, owner: ContainerIdentity, at: Millis, more: dict[str, Any]) -> None:
        self.active.remove(owner)
        session_id = self._sessions.pop(owner.container_id)
        self.dynamodb.sessions.delete(session_id)
        changed = {"sessionCount": 0, "lastActivity": at, **more}
        self.dynamodb.records.put({**(self._record(owner) or {}), **to_item(changed)})
        self._hint(owner, session_id)

    def _hint(self, owner: ContainerIdentity, session_id: str, *, routine: bool = False) -> None:
        if self._due is not None:
            self._due.hint(Hint(owner.container_id, session_ids=frozenset({session_id}), routine=routine))

    def arn_of(self, owner: ContainerIdentity) -> str:
        """Return the task that the container had from the beginning."""
        return self._arns[owner.container_id]

    def _record(self, owner: ContainerIdentity) -> dict[str, Any] | None:
        row = self.dynamodb.records.row(owner.container_id)
        return row.item if row else None

    def _touch_later(self) -> None:
        self.virtual.at(self.virtual.now + TOUCHED_EVERY, self._touch)

    def _touch(self) -> None:
        """Everybody who is active has done something."""
        at = to_value(self.virtual.now)
        for owner in self.active:
            row = self.dynamodb.sessions.row(self._sessions[owner.container_id])
            record = self._record(owner)
            if row and record:
                self.dynamodb.sessions.put({**row.item, "lastActivity": at})
                self.dynamodb.records.put({**record, "lastActivity": at})
                self._hint(owner, self._sessions[owner.container_id], routine=True)
        self._touch_later()

    # The controller

    def controller(self, stop: Any, *, hints: bool = False, **settings: Any) -> Loop:
        """Return the loop of `editctl run`, from settings as a fresh process would make it.

        With hints each row that is written hints at its container at once: AWS's own delay is not in it.
        """
        config = Config(cluster=CLUSTER, subnets=SETTINGS.subnets, security_groups=SETTINGS.security_groups, **settings)
        metrics = Metrics(config.policy(), self.virtual)
        with self.virtual.outside():
            clients = self.wire.clients(metrics.aws_call)
        assembly = Assembly(config, clock=self.virtual, wait=self.virtual.sleep, clients=clients)
        assembly.metrics = metrics
        reconciler = assembly.reconciler()
        self._due = reconciler.due if hints else None
        return assembly.loop(
            reconciler,
            assembly.leadership("bench/1", self.virtual),
            stop,
            health=Health(self.virtual, config.poll, config.resync),
            hints=HintsAtOnce() if hints else None,
        )

    # What it took

    def restart(self) -> None:
        """Count anew from here."""
        self.dynamodb.meter.restart()
        self.dynamodb.looks = 0
        self.quotas.restart()
        self.wire.events.clear()
        self.virtual.restart()
        self._began = self.virtual.now

    def usage(self) -> Usage:
        """Return what was used since the last restart."""
        calls = self.quotas.admitted + self.quotas.refused
        return Usage(
            (self.virtual.now - self._began) / SECOND,
            self.virtual.cpu,
            self.dynamodb.looks,
            self.dynamodb.meter.read_units,
            self.dynamodb.meter.calls.total(),
            dict(calls),
            dict(self.quotas.refused),
            self.virtual.longest_stretch,
        )


def nth_identity(number: int) -> ContainerIdentity:
    """Return one of as many identities as wanted."""
    return ContainerIdentity(f"client{number // 100:04d}", f"site{number // 10 % 10}", f"user{number:06d}@example.com")


@contextmanager
def _log_to_nowhere() -> Iterator[None]:
    """Let every line be written as `editctl run` writes it, to where nobody reads it."""
    root, ours = logging.getLogger(), telemetry.logger
    before = root.handlers[:], root.level, ours.level
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        telemetry.configure(nowhere)
        try:
            yield
        finally:
            root.handlers[:], root.level, ours.level = before
