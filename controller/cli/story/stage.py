"""What the demo plays on: the truth of ECS and of the tables, the people, the controller, and what goes wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from controller.assembly import Assembly
from controller.aws.hints import Queues
from controller.cli.story.child import ControllerProcess, Event
from controller.cli.story.traffic import Traffic
from controller.cli.story.workshop import Workshop
from controller.core.identity import (
    ContainerIdentity,
    generation_from_environment,
    identity_from_environment,
)
from controller.core.model import SECOND, ContainerRecord, Millis, Step
from controller.core.words import duration
from controller.errors import EditctlError
from controller.telemetry import iso

__all__ = ["Ecs", "NotAsTold", "Planted", "SeenTask", "Stage"]

_LOOK_EVERY = 0.1
"""Seconds between two looks at the world while nobody brings news of it."""
_HINTS_DELETED = "DeleteMessageBatch"


class NotAsTold(EditctlError):
    """A scene did not come out as the demo says it does."""


class Planted(StrEnum):
    """What the demo puts into ECS past the controller."""

    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    SOMEBODY_ELSES = "somebody else's"


class Lag(Protocol):
    """How stale ECS's answers are."""

    list_lag_ms: int


class Ecs(Protocol):
    """The strict ECS of the local endpoint, as far as the demo looks into it."""

    @property
    def quirks(self) -> Lag: ...
    def call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]: ...
    def snapshot(self) -> list[dict[str, Any]]: ...
    def stop_by_hand(self, task: str, reason: str = ...) -> None: ...
    def repeat_event(self, task: str) -> None: ...


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A task as it is in ECS, whoever started it; identity and generation are those of its environment."""

    arn: str
    identity: ContainerIdentity | None
    generation: int | None
    status: str
    live: bool
    stopped_reason: str
    created_at: Millis
    stopped_at: Millis | None

    @property
    def short(self) -> str:
        """The first characters of its id, as editctl shows it."""
        return self.arn.rpartition("/")[2][:6]


class Stage:
    """One installation on the local endpoint, with a controller that can be started and killed.

    `earlier` lets what ECS does within it happen some time ago. `flags` are the controller's settings. `workshop` has
    the tasks' workspaces; None where tasks are no processes.
    """

    def __init__(
        self,
        ecs: Ecs,
        traffic: Traffic,
        assembly: Assembly,
        environment: Mapping[str, str],
        flags: Sequence[str],
        earlier: Callable[[Millis], AbstractContextManager[None]],
        clock: Callable[[], Millis],
        workshop: Workshop | None = None,
    ) -> None:
        self.workshop = workshop
        self.ecs = ecs
        self.traffic = traffic
        self.planner = assembly.planner
        self.registry = assembly.registry()
        self.policy = assembly.policy
        self.poll = assembly.config.poll
        self.clock = clock
        self.controllers: list[ControllerProcess] = []
        self.events: list[Event] = []
        self.planted: dict[str, Planted] = {}
        """The demo's own tasks, by ARN."""
        self._assembly = assembly
        self._environment = environment
        self._flags = flags
        self._earlier = earlier
        self._news = threading.Condition()
        self._queues = Queues(assembly.clients.sqs)
        self._hint_queue_url = assembly.config.hint_queue_url or ""

    # The controller

    @property
    def controller(self) -> ControllerProcess:
        """The controller that was started last."""
        return self.controllers[-1]

    def start_controller(self) -> None:
        """Start `editctl run`; it takes a second until it looks."""
        self.controllers.append(ControllerProcess(self._environment, self._flags, self.clock, self._heard))

    def close(self) -> None:
        """End what runs. The controllers need not tidy up: their tables and tasks go, too."""
        self.traffic.let_go()
        for process in self.controllers:
            process.kill()

    def _heard(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def leads(self) -> bool:
        """Whether a controller has said that it leads."""
        return any(e.name == "leads" for e in self.events)

    def done(self, step: Step, identity: ContainerIdentity, since: int) -> bool:
        """Whether the controller has said, after so many events, that it did this step for this container."""
        return any(e.done and e.step == step and e.container_id == identity.container_id for e in self.events[since:])

    def is_up(self, identity: ContainerIdentity, since: int) -> bool:
        """Whether the controller has said, after so many events, that this container runs."""
        return any(e.is_up and e.container_id == identity.container_id for e in self.events[since:])

    def until(
        self,
        what: str,
        check: Callable[[], bool],
        within: Millis | None,
        meanwhile: Callable[[], None],
        *,
        needs_controller: bool = True,
    ) -> None:
        """Wait until the check holds, calling `meanwhile` all the time. Raises NotAsTold, with None never for time."""
        began = self.clock()
        while not check():
            if needs_controller and self.controller.exit_code is not None:
                raise NotAsTold("the controller has ended by itself", self.controller.last_words)
            if within is not None and self.clock() >= began + within:
                raise NotAsTold(f"waited {duration(within)} in vain: {what}")
            meanwhile()
            with self._news:
                self._news.wait(_LOOK_EVERY)
        meanwhile()

    def looks(self) -> Callable[[], bool]:
        """Return a check that holds when the controller has looked at all that it is hinted at from here on."""
        # A hint is deleted after the round that it led to, not before.
        deleted = self.traffic.count(_HINTS_DELETED)
        return lambda: self.traffic.count(_HINTS_DELETED) > deleted and not self._queues.depth(self._hint_queue_url)

    def looks_again(self) -> Callable[[], bool]:
        """Let ECS's last event of every task of a container come once more; return the check that goes with it."""
        looks = self.looks()
        for task in self.tasks():
            if task.identity:
                self.ecs.repeat_event(task.arn)
        return looks

    # What there is

    def tasks(self) -> list[SeenTask]:
        """Return every task, live and ended, in the order in which they were started."""
        return [_seen(described) for described in self.ecs.snapshot()]

    def tasks_of(self, identity: ContainerIdentity) -> list[SeenTask]:
        """Return the tasks that carry this identity, live and ended."""
        return [t for t in self.tasks() if t.identity == identity]

    def live(self, identity: ContainerIdentity) -> list[SeenTask]:
        """Return the live ones of them."""
        return [t for t in self.tasks_of(identity) if t.live]

    def task(self, arn: str) -> SeenTask:
        """Return one task."""
        return next(t for t in self.tasks() if t.arn == arn)

    def record(self, identity: ContainerIdentity) -> ContainerRecord:
        """Return the record as the table has it, an empty one if there is none."""
        found = self._assembly.tables.get_record(identity.container_id)
        return found or ContainerRecord(identity.container_id)

    def rows(self, identity: ContainerIdentity) -> int:
        """Return how many sessions are open."""
        looks = self._assembly.tables.look([identity.container_id])
        return len(looks[identity.container_id].sessions)

    def lease_version(self) -> int:
        """Return how often the lease was written."""
        row = self._get(self._assembly.names.controller, {"name": "lease"})
        return int(row.get("version", {}).get("N", 0))

    def writes(self) -> tuple[int, int]:
        """Return how many writes there were, and how many of them were the lease's."""
        while True:
            lease, writes = self.lease_version(), self.traffic.writes
            if self.lease_version() == lease:
                return writes, lease

    # What goes wrong

    def plant(self, kind: Planted, identity: ContainerIdentity | None, age: Millis = 0) -> SeenTask:
        """Run a task past the controller, with editctl's marks for this identity or with none."""
        now = self.clock()
        prepared = json.loads(self._assembly.tasks.prepare(identity or _NOBODY, 1, now - age))
        if identity is None:
            for mark in ("tags", "overrides", "startedBy"):
                del prepared[mark]
        with self._earlier(age):
            arn = str(self.ecs.call("RunTask", prepared)["tasks"][0]["taskArn"])
        self.planted[arn] = kind
        return self.task(arn)

    def lose_a_release(self, session_id: str) -> None:
        """Delete a session's row and die before the count is taken down."""
        self._assembly.clients.dynamodb.delete_item(
            TableName=self._assembly.names.sessions, Key=_item({"sessionId": session_id})
        )

    def date_back(self, session_id: str, identity: ContainerIdentity, by: Millis) -> None:
        """Let a session have been opened some time ago, and nothing have come of it and its container since."""
        at = self.clock() - by
        names, times = self._assembly.names, {"lastActivity": {"N": str(at)}}
        self._set(names.containers, {"containerId": identity.container_id}, times)
        # With lastActivity alone it would be news of a message, and of those nobody expects that they go back.
        self._set(names.sessions, {"sessionId": session_id}, {**times, "createdAt": {"S": iso(at)}})

    def _set(self, table: str, key: Mapping[str, str], values: Mapping[str, Any]) -> None:
        (name,) = key
        self._assembly.clients.dynamodb.update_item(
            TableName=table,
            Key=_item(key),
            UpdateExpression="SET " + ", ".join(f"{attribute} = :{attribute}" for attribute in values),
            ConditionExpression=f"attribute_exists({name})",
            ExpressionAttributeValues={f":{attribute}": value for attribute, value in values.items()},
        )

    def _get(self, table: str, key: Mapping[str, str]) -> Mapping[str, Any]:
        answer = self._assembly.clients.dynamodb.get_item(TableName=table, Key=_item(key), ConsistentRead=True)
        row: Mapping[str, Any] = answer.get("Item", {})
        return row


_NOBODY = ContainerIdentity("nobody", "nothing", "none")


def _item(texts: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"S": text} for name, text in texts.items()}


def _seen(described: Mapping[str, Any]) -> SeenTask:
    variables = {
        pair["name"]: pair["value"]
        for container in described["overrides"]["containerOverrides"]
        for pair in container.get("environment", ())
    }
    return SeenTask(
        described["taskArn"],
        identity_from_environment(variables),
        generation_from_environment(variables),
        described["lastStatus"],
        described["desiredStatus"] == "RUNNING",
        described.get("stoppedReason", ""),
        round(described["createdAt"] * SECOND),
        round(described["stoppedAt"] * SECOND) if "stoppedAt" in described else None,
    )
