"""The original system's success criteria and its test list, one by one, each with the writers that it was written for.

The whole system on one clock, agents included. Where a criterion is about what writers write, it is tried with our
library, with the original's put and bare ADD, and with both on one container. docs/protocol.md has the list.
"""

from dataclasses import replace

import pytest

from controller.core.identity import (
    TAG_CLIENT,
    TAG_CONTAINER,
    TAG_PROJECT,
    TAG_USER,
    ContainerIdentity,
    identity_from_environment,
)
from controller.core.model import ContainerRecord, OutcomeStatus
from controller.sessions import SessionRegistry
from tests.simulation import Simulation

JOHN = ContainerIdentity("ameliastamps", "website", "john@email.com")
EVA = replace(JOHN, user_id="eva@email.com")
SHOP = replace(JOHN, project_id="shop")
OTHER_CLIENT = replace(JOHN, client_id="baker")
ID = JOHN.container_id

WRITERS = ("ours", "original", "both")


class Writers:
    """Session writers of a kind; with `both`, every other session is written by the original's."""

    def __init__(self, sim: Simulation, kind: str) -> None:
        self._sim, self._kind = sim, kind
        self._original: dict[str, bool] = {}

    def opens(self, session_id: str, identity: ContainerIdentity = JOHN) -> None:
        original = self._kind == "original" or (self._kind == "both" and len(self._original) % 2 == 1)
        self._original[session_id] = original
        if original:
            self._sim.written_by_originals.add(identity.container_id)
            self._sim.tables.put_original_session(session_id, identity.container_id, self._sim.clock())
            self._add(identity.container_id, 1)
        else:
            self._sim.registry.open(session_id, identity)

    def releases(self, session_id: str, identity: ContainerIdentity = JOHN) -> None:
        if self._original[session_id]:
            self._add(identity.container_id, -1)
            self._sim.tables.delete_original_session(session_id)
        else:
            self._sim.registry.release(session_id)

    def is_used(self, session_id: str) -> None:
        """Let the chat go on: ours touches, the original writes nothing."""
        if not self._original[session_id]:
            self._sim.registry.touch(session_id)

    def _add(self, container_id: str, by: int) -> None:
        """The bare ADD; an assign sets lastActivity in the same call."""
        self._sim.tables.add_raw_count(container_id, by)
        if by > 0:
            row = dict(self._sim.tables.rows["records"][container_id])
            self._sim.tables.put_row("records", {**row, "lastActivity": {"N": str(self._sim.clock())}})


@pytest.fixture
def sim() -> Simulation:
    return Simulation(agents=True)


@pytest.fixture(params=WRITERS)
def writers(sim: Simulation, request: pytest.FixtureRequest) -> Writers:
    return Writers(sim, request.param)


def record_of(sim: Simulation, identity: ContainerIdentity = JOHN) -> ContainerRecord:
    record = sim.tables.get_record(identity.container_id)
    assert record is not None
    return record


def only_task(sim: Simulation, identity: ContainerIdentity = JOHN) -> str:
    (task,) = sim.live(identity.container_id)
    return str(task["taskArn"])


def rows_and_count(sim: Simulation, identity: ContainerIdentity = JOHN) -> tuple[int, int | None]:
    return len(sim.sessions(identity.container_id)), record_of(sim, identity).session_count


def pass_minutes(sim: Simulation, minutes: int, *used: str, writers: Writers) -> None:
    """Let time pass in steps of five minutes, some chats going on meanwhile."""
    for _ in range(minutes // 5):
        sim.clock.step(minutes=5)
        for session_id in used:
            writers.is_used(session_id)
        sim.settle()


# The success criteria


def test_identity_one_container_for_each_client_project_and_user(sim: Simulation, writers: Writers) -> None:
    for n, identity in enumerate((JOHN, EVA, SHOP, OTHER_CLIENT, JOHN)):
        writers.opens(f"s{n}", identity)
    sim.settle()
    assert len(sim.live()) == 4
    assert ID == "ameliastamps-website-john@email.com"
    for identity in (JOHN, EVA, SHOP, OTHER_CLIENT):
        (task,) = sim.live(identity.container_id)
        tags = {tag["key"]: tag["value"] for tag in task["tags"]}
        assert (tags[TAG_CLIENT], tags[TAG_PROJECT]) == (identity.client_id, identity.project_id)
        assert (tags[TAG_USER], tags[TAG_CONTAINER]) == (identity.user_id, identity.container_id)
        (container,) = task["overrides"]["containerOverrides"]
        told = {pair["name"]: pair["value"] for pair in container["environment"]}
        assert identity_from_environment(told) == identity
        assert record_of(sim, identity).identity == identity


def test_sharing_all_chats_of_a_user_on_a_project_have_the_same_container(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1")
    sim.settle()
    task, address = only_task(sim), record_of(sim).container_ip
    writers.opens("s2")
    sim.settle()
    assert (only_task(sim), record_of(sim).container_ip) == (task, address)
    assert sim.agents.of(task).sessions == ("s1", "s2"), "the workload is told of both"
    assert sim.launched == {task}


def test_discovery_a_running_container_is_found_by_record_by_tags_and_by_a_controller_that_remembers_nothing(
    sim: Simulation, writers: Writers
) -> None:
    writers.opens("s1")
    sim.settle()
    task = only_task(sim)

    # By record, as the chat service looks.
    found = sim.registry.get_or_create_container(JOHN)
    assert (found.task_arn, found.container_ip) == (task, record_of(sim).container_ip)

    # By a controller that has just started.
    sim.controller = sim.new_controller()
    changed = [o for o in sim.round().outcomes if o.status is not OutcomeStatus.SKIPPED]
    assert changed == []

    # By its tags, when the record is lost.
    sim.tables.delete_row("records", ID)
    sim.settle()
    assert (record_of(sim).task_arn, record_of(sim).identity) == (task, JOHN)
    assert sim.launched == {task}
    assert sim.stopped == []


def test_accurate_counting_the_count_is_the_number_of_open_chats_whatever_writers_do(
    sim: Simulation, writers: Writers
) -> None:
    for n in range(1, 6):
        writers.opens(f"s{n}")
        assert rows_and_count(sim) == (n, n)
        sim.settle()
        assert rows_and_count(sim) == (n, n)
    for left in range(4, -1, -1):
        writers.releases(f"s{left + 1}")
        assert rows_and_count(sim) == (left, left)
        sim.settle()
        assert rows_and_count(sim) == (left, left)


def test_accurate_counting_a_writer_that_died_between_its_two_calls_is_made_good(sim: Simulation) -> None:
    writers = Writers(sim, "original")
    writers.opens("s1")
    sim.settle()
    sim.tables.put_original_session("s2", ID, sim.clock())
    assert rows_and_count(sim) == (2, 1)
    sim.settle()
    assert rows_and_count(sim) == (2, 2)
    sim.tables.add_raw_count(ID, -1)
    sim.tables.add_raw_count(ID, -1)
    sim.tables.add_raw_count(ID, -1)
    assert rows_and_count(sim) == (2, -1)
    sim.settle()
    assert rows_and_count(sim) == (2, 2)
    assert len(sim.live(ID)) == 1


def test_auto_shutdown_respects_active_sessions(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1")
    writers.opens("s2")
    sim.settle()
    task = only_task(sim)

    # One goes, the other works on: however long, it stays.
    writers.releases("s1")
    pass_minutes(sim, 120, "s2", writers=writers)
    assert only_task(sim) == task

    # The last one goes: twenty quiet minutes, then it is stopped.
    writers.releases("s2")
    sim.settle()
    sim.clock.step(minutes=19)
    sim.settle()
    assert only_task(sim) == task
    assert sim.stopped == []
    sim.clock.step(minutes=2)
    sim.settle()
    assert sim.live(ID) == []
    assert sim.stopped == [task]


def test_auto_shutdown_a_chat_that_nobody_uses_keeps_nothing_after_its_time(sim: Simulation) -> None:
    ours, original = Writers(sim, "ours"), Writers(sim, "original")
    ours.opens("s1", JOHN)
    original.opens("o1", EVA)
    sim.settle()
    sim.clock.step(minutes=22)
    sim.settle()
    assert sim.live(ID) == [], "our row says when it was last active"
    only_task(sim, EVA)
    sim.clock.step(hours=12)
    sim.settle()
    assert sim.live(EVA.container_id) == [], "the original's says it once; it counts for twelve hours"
    assert (len(sim.sessions(ID)), len(sim.sessions(EVA.container_id))) == (1, 1), "rows are the writers' own"


def test_auto_shutdown_of_one_container_is_none_of_anothers(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1", JOHN)
    writers.opens("s2", EVA)
    sim.settle()
    writers.releases("s1", JOHN)
    pass_minutes(sim, 30, "s2", writers=writers)
    assert sim.live(ID) == []
    only_task(sim, EVA)


def test_state_preserved_what_was_worked_on_is_saved_before_the_container_stops(
    sim: Simulation, writers: Writers
) -> None:
    writers.opens("s1")
    sim.settle()
    task = only_task(sim)
    for _ in range(5):
        assert sim.agents.works(task)
    writers.releases("s1")
    sim.settle()
    sim.clock.step(minutes=22)
    sim.settle()
    assert sim.stopped == [task]
    agent, save = sim.agents.of(task), record_of(sim).save
    assert agent.receipt_at == agent.pushed == agent.work == 5
    assert save is not None
    assert (save.state, save.commit) == ("saved", f"{5:040x}"), "the record says where it is"


# The test list


def test_reuse_who_comes_back_in_time_finds_the_same_container(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1")
    sim.settle()
    task = only_task(sim)
    for n in range(2, 6):
        writers.releases(f"s{n - 1}")
        sim.settle()
        sim.clock.step(minutes=15)
        writers.opens(f"s{n}")
        sim.settle()
        assert only_task(sim) == task
        assert sim.agents.works(task)
    assert sim.launched == {task}


def test_reuse_who_comes_back_later_gets_a_new_container_of_the_same_name(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1")
    sim.settle()
    first, before = only_task(sim), record_of(sim)
    writers.releases("s1")
    sim.settle()
    sim.clock.step(minutes=22)
    sim.settle()
    writers.opens("s2")
    sim.settle()
    again = record_of(sim)
    assert only_task(sim) == again.task_arn != first
    assert again.generation == (before.generation or 0) + 1
    assert again.identity == JOHN
    assert again.save is not None, "where the work of the first one is"


def test_many_sessions_on_one_container(sim: Simulation, writers: Writers) -> None:
    names = [f"s{n:02}" for n in range(25)]
    for name in names:
        writers.opens(name)
    sim.settle()
    task = only_task(sim)
    assert sim.launched == {task}
    assert rows_and_count(sim) == (25, 25)
    assert sim.agents.of(task).sessions == tuple(names)
    for name in names[:-1]:
        writers.releases(name)
        sim.round()
        assert only_task(sim) == task
    assert rows_and_count(sim) == (1, 1)
    pass_minutes(sim, 60, names[-1], writers=writers)
    assert only_task(sim) == task


def test_release_the_last_one_leaves_a_record_and_nothing_that_runs(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1")
    sim.settle()
    writers.releases("s1")
    sim.settle()
    only_task(sim)
    sim.clock.step(minutes=22)
    sim.settle()
    ended = record_of(sim)
    assert (ended.status, ended.session_count) == ("terminated", 0)
    assert (ended.task_arn, ended.container_ip) == (None, None)
    assert sim.sessions(ID) == []
    assert {task["lastStatus"] for task in sim.tasks()} == {"STOPPED"}
    writes = sim.writes()
    sim.clock.step(hours=3)
    sim.settle()
    assert sim.writes() == writes


def test_release_sent_twice_counts_once(sim: Simulation) -> None:
    ours = Writers(sim, "ours")
    ours.opens("s1")
    ours.opens("s2")
    sim.settle()
    assert sim.registry.release("s1")
    assert not sim.registry.release("s1")
    assert rows_and_count(sim) == (1, 1)

    # The original's bare ADD counts twice; the next round puts it right.
    Writers(sim, "original").opens("o1")
    sim.settle()
    sim.tables.add_raw_count(ID, -1)
    sim.tables.delete_original_session("o1")
    sim.tables.add_raw_count(ID, -1)
    assert rows_and_count(sim) == (1, 0)
    sim.settle()
    assert rows_and_count(sim) == (1, 1)


def test_release_while_the_container_starts_and_back_again(sim: Simulation, writers: Writers) -> None:
    writers.opens("s1")
    sim.round()
    writers.releases("s1")
    writers.opens("s2")
    sim.settle()
    assert rows_and_count(sim) == (1, 1)
    assert sim.launched == {only_task(sim)}


def test_the_original_call_get_or_create_waits_for_one_container(sim: Simulation) -> None:
    def wait(_: float) -> None:
        sim.round()
        sim.clock.step(seconds=2)

    registry = SessionRegistry(sim.tables, sim.policy, sim.clock, wait)
    found = registry.get_or_create_container(JOHN)
    assert registry.get_or_create_container(JOHN) == found
    assert sim.launched == {found.task_arn}
