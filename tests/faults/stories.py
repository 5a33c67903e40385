"""Worlds in which something is to be done, each small enough to be run thousands of times."""

from __future__ import annotations

from collections.abc import Callable

from controller.aws.rows import RECORDS, to_item
from controller.core.identity import TAG_CLIENT, TAG_CONTAINER, TAG_PROJECT, ContainerIdentity
from controller.errors import SessionNotFound
from tests.simulation import Simulation

TOM = ContainerIdentity("acme", "blog", "tom")
EVA = ContainerIdentity("acme", "shop", "eva")

CHANGES = 5
"""What somebody has changed in the workspace of a story that has one."""

Story = Callable[[Simulation], None]


def cold_start(sim: Simulation) -> None:
    """Two users come; nothing runs yet."""
    sim.registry.open("s1", TOM)
    sim.registry.open("s2", EVA)


def running(sim: Simulation) -> None:
    """A user's container runs and agrees."""
    sim.registry.open("s1", TOM)
    sim.settle()


def idle(sim: Simulation) -> None:
    """The user has been quiet for longer than the idle timeout."""
    running(sim)
    sim.clock.step(minutes=22)


def released(sim: Simulation) -> None:
    """The user has left, and the idle time after that is over."""
    running(sim)
    sim.registry.release("s1")
    sim.settle()
    sim.clock.step(minutes=22)


def original_user(sim: Simulation) -> None:
    """The original writer assigned a session, and the original system launched its task."""
    tags = {TAG_CONTAINER: TOM.container_id, TAG_CLIENT: TOM.client_id, TAG_PROJECT: TOM.project_id}
    sim.tables.put_original_session("o1", TOM.container_id, sim.clock())
    sim.tables.add_raw_count(TOM.container_id, 1)
    sim.launch(TOM, tags=tags, started_by="hermes", generation=0)
    sim.clock.step(seconds=5)


def count_drifted(sim: Simulation) -> None:
    """Original writers died between their two writes: one count too high, one too low."""
    running(sim)
    sim.registry.open("s2", EVA)
    sim.settle()
    sim.tables.add_raw_count(TOM.container_id, 4)
    sim.tables.put_original_session("o1", EVA.container_id, sim.clock())


def second_task(sim: Simulation) -> None:
    """Somebody launched a second task on the container's id."""
    running(sim)
    sim.launch(TOM, generation=1)
    sim.clock.step(minutes=6)
    sim.registry.touch("s1")


def orphan(sim: Simulation) -> None:
    """A task of ours runs and nobody owns it."""
    sim.launch(TOM)
    sim.clock.step(minutes=6)


def died(sim: Simulation) -> None:
    """The task of an active user ended by itself."""
    running(sim)
    sim.ecs.exit_task(sim.live()[0]["taskArn"], 1)
    sim.clock.step(seconds=30)
    sim.registry.touch("s1")


def stopped_by_hand(sim: Simulation) -> None:
    """Somebody stops the task of an active user."""
    running(sim)
    sim.ecs.stop_by_hand(sim.live()[0]["taskArn"])


def refused(sim: Simulation) -> None:
    """ECS has no capacity for the first two launches."""
    sim.registry.open("s1", TOM)
    sim.ecs.faults.refuse_placement(times=2)


def half_stopped(sim: Simulation) -> None:
    """A controller died after it wrote `stopping`; then the user came back."""
    idle(sim)
    sim.round()
    sim.registry.touch("s1")


def half_launched(sim: Simulation) -> None:
    """A controller died between RunTask and its record."""
    sim.registry.open("s1", TOM)
    sim.ecs.faults.lose_reply("RunTask")
    sim.round()


def never_ready(sim: Simulation) -> None:
    """The task of a user does not come up within the launch timeout."""
    sim.registry.open("s1", TOM)
    sim.round()
    row = dict(sim.tables.rows[RECORDS][TOM.container_id])
    row["launch"] = to_item({"launch": {"requestedAt": sim.clock() - 11 * 60_000, "keyId": "", "request": "{}"}})[
        "launch"
    ]
    sim.tables.put_row(RECORDS, row)


def overwritten(sim: Simulation) -> tuple[str, str]:
    """The original's getOrCreateContainer put its record over the one that names the task in which somebody works.

    Return the ARN of the task with the work, now a second one, and of the one that the record names.
    """
    running(sim)
    second = str(sim.live(TOM.container_id)[0]["taskArn"])
    for _ in range(CHANGES):
        if sim.policy.agents and not sim.agents.works(second):
            raise AssertionError("nobody can work there")
    tags = {TAG_CONTAINER: TOM.container_id, TAG_CLIENT: TOM.client_id, TAG_PROJECT: TOM.project_id}
    named = sim.launch(TOM, tags=tags, started_by="hermes", generation=0)
    sim.clock.step(seconds=5)
    put_record(sim, {"taskArn": {"S": named}, "containerIp": {"S": "10.9.9.9"}, "containerStatus": {"S": "running"}})
    return second, named


def put_record(sim: Simulation, more: dict[str, dict[str, str]]) -> None:
    """Put a whole record over whatever is there, as the original does."""
    whole = {
        "containerId": {"S": TOM.container_id},
        "clientId": {"S": TOM.client_id},
        "projectId": {"S": TOM.project_id},
        "userId": {"S": TOM.user_id},
        "createdAt": {"S": "2026-03-02T10:00:00Z"},
        "lastActivity": {"N": str(sim.clock())},
        "sessionCount": {"N": "1"},
    }
    sim.tables.put_row(RECORDS, whole | more)


ALL: tuple[Story, ...] = (
    cold_start,
    running,
    idle,
    released,
    original_user,
    count_drifted,
    second_task,
    orphan,
    died,
    stopped_by_hand,
    refused,
    half_stopped,
    half_launched,
    never_ready,
)


def keep_active(sim: Simulation, session_id: str) -> bool:
    """Touch a session as its user would; False when it is not open."""
    try:
        sim.registry.touch(session_id)
    except SessionNotFound:
        return False
    return True
