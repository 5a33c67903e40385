"""The TypeScript and the Python session writers are the same: from the same rows, the same answers and the same rows.

Each has tables of its own, with no controller, on one clock that is turned back between the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller.core.identity import ContainerIdentity
from controller.errors import EditctlError
from controller.sessions import SessionRegistry
from tests.hermes.driver import Driver, Refused, ours
from tests.hermes.world import Rows, World

pytestmark = pytest.mark.timeout(240)

MINUTE = 60_000
TOM = ContainerIdentity("acme", "blog", "tom")
IDENTITIES = (
    TOM,
    # These two make the same container id.
    ContainerIdentity("a-b", "c", "tom"),
    ContainerIdentity("a", "b-c", "tom"),
)
IDS = ("acme-blog-tom", "a-b-c-tom")
ARN = "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Step:
    """One thing that happens: a call, in both languages, or something that others do to the rows."""

    name: str
    args: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.name}{self.args}"


# Calls


def typescript(hermes: Driver, step: Step) -> object:
    """Return what the service answers, or the name of its error."""
    first, *more = step.args
    try:
        if step.name == "touch":
            return hermes(ours("touchSession", first))
        if step.name == "release":
            return hermes(ours("releaseSession", first))
        if step.name == "open":
            return hermes(ours("assignSessionToContainer", first, _parts(*more)))
        container = hermes(ours("getOrCreateContainer", *_parts(first).values(), {"withinMs": more[0]}))
        return [container.get(k) for k in ("containerId", "taskArn", "containerIp", "generation")]
    except Refused as error:
        return error.name


def python(registry: SessionRegistry, step: Step) -> object:
    """Return what the registry answers, or the name of its error."""
    first, *more = step.args
    try:
        if step.name == "touch":
            registry.touch(first)
            return None
        if step.name == "release":
            return registry.release(first)
        if step.name == "open":
            return registry.open(first, *more)
        found = registry.get_or_create_container(first, *more)
        # A record without a generation is of generation 0 in Python.
        return [found.container_id, found.task_arn, found.container_ip, found.generation or None]
    except EditctlError as error:
        return type(error).__name__


def _parts(identity: ContainerIdentity) -> dict[str, str]:
    return {"clientId": identity.client_id, "projectId": identity.project_id, "userId": identity.user_id}


# What others do


def count(rows: Rows, now: int, container_id: str, number: int | None) -> None:
    """Set a count."""
    rows.change(container_id, sessionCount=number)


def disown(rows: Rows, now: int, container_id: str, nothing: object) -> None:
    """Take triple and wish off a record, in one of the three ways in which nothing can be there."""
    names = ("clientId", "projectId", "userId", "wantedUntil")
    rows.change(container_id, **dict.fromkeys(names))
    if nothing is not None:
        values = dict.fromkeys(names, None if nothing == "NULL" else nothing)
        rows.put(rows.names.containers, **{**rows.record(container_id), **values})


def run(rows: Rows, now: int, container_id: str, arn: str | None, generation: int | None) -> None:
    """Let the container run."""
    rows.change(container_id, containerStatus="running", taskArn=arn, containerIp="10.0.0.1", generation=generation)


def want(rows: Rows, now: int, container_id: str, ahead: int) -> None:
    """Let somebody else wait for the container."""
    rows.change(container_id, wantedUntil=now + ahead)


def fail(rows: Rows, now: int, container_id: str, at: int, retry: int) -> None:
    """Let a launch have failed."""
    failure = {"count": 1, "reason": "no capacity", "at": now + at, "retryAt": now + retry}
    rows.change(container_id, containerStatus="failed", failure=failure, taskArn=None)


def hold(rows: Rows, now: int, container_id: str, ahead: int) -> None:
    """Hold the container."""
    rows.change(container_id, hold={"by": "ann", "reason": "look", "until": now + ahead})


def declare(rows: Rows, now: int, container_id: str, policy: str) -> None:
    """Declare it."""
    rows.change(container_id, declared={"uid": "u", "generation": 1, "runPolicy": policy})


def pause(rows: Rows, now: int, until: Any) -> None:
    """Pause everything."""
    rows.put(rows.names.controller, name="pause", by="ann", reason="look", until=until)


def lose_record(rows: Rows, now: int, container_id: str) -> None:
    """Delete a record, which nobody should."""
    rows.drop(rows.names.containers, container_id)


def original_row(rows: Rows, now: int, session: str, container_id: str) -> None:
    """Put a row as the original does, over whatever is there."""
    rows.put(rows.names.sessions, sessionId=session, containerId=container_id, lastActivity=now)


def break_triple(rows: Rows, now: int, container_id: str) -> None:
    """Leave a part of a triple."""
    rows.change(container_id, clientId="acme", projectId=None)


def half_row(rows: Rows, now: int, session: str, container_id: str) -> None:
    """Put a row with a part of a triple, which nobody can read."""
    rows.put(rows.names.sessions, sessionId=session, containerId=container_id, lastActivity=now, clientId="acme")


OTHERS: dict[str, Callable[..., None]] = {
    change.__name__: change
    for change in (
        count, disown, run, want, fail, hold, declare, pause, lose_record, original_row, half_row, break_triple,
    )
}  # fmt: skip

_sessions = st.sampled_from(["s1", "s2"])
_identities = st.sampled_from(IDENTITIES)
_ids = st.sampled_from(IDS)
_ahead = st.sampled_from([-MINUTE, 0, 1000, 2000, MINUTE, 60 * MINUTE])


def _step(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(name), st.tuples(*args))


STEPS = st.one_of(
    _step("open", _sessions, _identities),
    _step("open", _sessions, _identities),
    _step("touch", _sessions),
    _step("release", _sessions),
    _step("release", _sessions),
    _step("get", _identities, st.sampled_from([1000, 2500])),
    _step("count", _ids, st.sampled_from([None, -1, 0, 5])),
    _step("disown", _ids, st.sampled_from([None, "", "NULL"])),
    _step("run", _ids, st.sampled_from([ARN, None]), st.sampled_from([None, 3])),
    _step("want", _ids, _ahead),
    _step("fail", _ids, st.sampled_from([0, 1000]), _ahead),
    _step("hold", _ids, _ahead),
    _step("declare", _ids, st.sampled_from(["Auto", "Stopped"])),
    _step("pause", st.sampled_from([0, 4_000_000_000_000, "soon"])),
    _step("lose_record", _ids),
    _step("original_row", _sessions, _ids),
    _step("half_row", _sessions, _ids),
    _step("break_triple", _ids),
)


# A record is nobody's in three ways, and lets sessions in in all of them.
NOBODYS = [
    step
    for nothing in (None, "", "NULL")
    for step in (
        Step("disown", (TOM.container_id, nothing)),
        Step("open", ("s1", TOM)),
        Step("disown", (TOM.container_id, nothing)),
        Step("get", (TOM, 1000)),
    )
]
# Each step is a second after the one before, so these times are exactly those of the call that follows.
ON_THE_EDGE = [
    Step("hold", (TOM.container_id, 1000)),
    Step("get", (TOM, 1000)),
    Step("want", (TOM.container_id, 2000)),
    Step("get", (TOM, 1000)),
    Step("fail", (TOM.container_id, 1000, 2000)),
    Step("get", (TOM, 1000)),
    Step("run", (TOM.container_id, None, 3)),
    Step("get", (TOM, 1000)),
]
UNREADABLE = [
    Step("half_row", ("s1", TOM.container_id)),
    Step("touch", ("s1",)),
    Step("release", ("s1",)),
    Step("open", ("s1", TOM)),
]


@pytest.fixture
def theirs(world: World) -> World:
    """Return where the Python registry writes."""
    return world.beside()


@settings(
    # Each step is a dozen HTTP requests.
    max_examples=settings().max_examples // 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=1, max_size=10))
@example(NOBODYS)
@example(ON_THE_EDGE)
@example(UNREADABLE)
def test_the_same_calls_on_the_same_rows_leave_the_same(hermes: Driver, world: World, theirs: World, steps: list[Step]):
    world.rows.clear()
    theirs.rows.clear()
    clock = world.clock
    for step in steps:
        began = clock.step(seconds=1)
        if step.name in OTHERS:
            for rows in (world.rows, theirs.rows):
                OTHERS[step.name](rows, began, *step.args)
            continue
        expected = python(theirs.registry, step)
        ended = clock.now()
        clock.set(began)
        assert typescript(hermes, step) == expected, step
        assert clock.now() == ended, step
        assert list(world.rows.all().values()) == list(theirs.rows.all().values()), step
