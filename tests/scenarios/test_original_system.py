"""Rows exactly as the original system writes them, in DynamoDB JSON, beside rows of our own."""

import pytest

from controller.core.identity import TAG_CLIENT, TAG_CONTAINER, TAG_PROJECT, ContainerIdentity
from controller.core.model import OutcomeStatus
from tests.simulation import CLUSTER, Simulation

JOHN = ContainerIdentity("ameliastamps", "website", "john@email.com")
ID = JOHN.container_id


def assign(sim: Simulation, session_id: str = "o1") -> None:
    """The original assignSessionToContainer: a put of the row, then a bare ADD that also sets lastActivity."""
    sim.tables.put_row(
        "sessions",
        {
            "sessionId": {"S": session_id},
            "containerId": {"S": ID},
            "inputQueueUrl": {"S": "https://sqs.eu-west-1.amazonaws.com/123456789012/in"},
            "outputQueueUrl": {"S": "https://sqs.eu-west-1.amazonaws.com/123456789012/out"},
            "createdAt": {"S": "2026-03-02T10:00:00.000Z"},
            "lastActivity": {"N": str(sim.clock())},
        },
    )
    add_count(sim, 1)


def add_count(sim: Simulation, by: int) -> None:
    """The original's second write: creates the record when there is none, never looks at it."""
    row = dict(sim.tables.rows["records"].get(ID, {"containerId": {"S": ID}}))
    row["sessionCount"] = {"N": str(int(row.get("sessionCount", {"N": "0"})["N"]) + by)}
    if by > 0:
        row["lastActivity"] = {"N": str(sim.clock())}
    sim.tables.put_row("records", row)


def release(sim: Simulation, session_id: str = "o1") -> None:
    """The original releaseSession: ADD -1, then delete; lastActivity stays."""
    add_count(sim, -1)
    sim.tables.delete_row("sessions", session_id)


def original_task(sim: Simulation) -> str:
    """What the original getOrCreateContainer launches, and the whole record that it puts afterwards."""
    tags = {TAG_CONTAINER: ID, TAG_CLIENT: JOHN.client_id, TAG_PROJECT: JOHN.project_id}
    arn = sim.launch(JOHN, tags=tags, started_by="hermes", generation=0)
    sim.clock.step(seconds=5)
    now = str(sim.clock())
    sim.tables.put_row(
        "records",
        {
            "containerId": {"S": ID},
            "clientId": {"S": JOHN.client_id},
            "projectId": {"S": JOHN.project_id},
            "userId": {"S": JOHN.user_id},
            "taskArn": {"S": arn},
            "containerIp": {"S": "10.9.9.9"},
            "createdAt": {"S": "2026-03-02T10:00:00Z"},
            "lastActivity": {"N": now},
            "sessionCount": {"N": "0"},
            "containerStatus": {"S": "running"},
        },
    )
    return arn


@pytest.fixture
def sim():
    return Simulation()


def test_a_row_that_names_only_its_container_gets_one(sim):
    assign(sim)
    sim.settle()
    record = sim.tables.get_record(ID)
    assert record is not None
    assert (record.identity, record.status, record.session_count) == (JOHN, "running", 1)
    (task,) = sim.live(ID)
    assert record.task_arn == task["taskArn"]


def test_it_keeps_its_container_however_old_its_activity_is_up_to_the_maximum_age(sim):
    assign(sim)
    sim.settle()
    for _ in range(11):
        sim.clock.step(hours=1)
        sim.settle()
        assert len(sim.live(ID)) == 1
    assert not sim.stopped
    sim.clock.step(hours=1, minutes=2)
    sim.settle()
    assert not sim.live(ID), "older than 12 h it keeps nothing"
    assert sim.tables.row("sessions", "o1"), "the row itself is left alone"


def test_when_the_last_one_goes_the_container_lives_twenty_more_minutes(sim):
    assign(sim)
    sim.settle()
    sim.clock.step(hours=2)
    release(sim)
    sim.settle()
    record = sim.tables.get_record(ID)
    assert record is not None
    assert record.empty_since is not None, "its release does not move the fence, so this controller notes the time"
    sim.clock.step(minutes=19)
    sim.settle()
    assert len(sim.live(ID)) == 1
    sim.clock.step(minutes=2)
    sim.settle()
    assert not sim.live(ID)
    after = sim.tables.get_record(ID)
    assert after is not None
    assert (after.status, after.session_count, after.task_arn) == ("terminated", 0, None)


def test_its_own_task_and_record_are_taken_over_and_marked(sim):
    arn = original_task(sim)
    assign(sim)
    sim.settle()
    (task,) = sim.live(ID)
    tags = {t["key"]: t["value"] for t in task["tags"]}
    assert task["taskArn"] == arn
    assert tags["ManagedBy"] == "editctl"
    assert tags["UserId"] == JOHN.user_id
    record = sim.tables.get_record(ID)
    assert record is not None
    assert record.container_ip == task["attachments"][0]["details"][-1]["value"] or record.container_ip != "10.9.9.9"
    assert not sim.stopped


def test_a_second_task_of_the_original_is_drained_after_its_grace(sim):
    first = original_task(sim)
    assign(sim)
    sim.settle()
    second = original_task(sim)
    sim.settle()
    record = sim.tables.get_record(ID)
    assert record is not None
    assert record.task_arn == second, "its put overwrote the record; that is survived"
    sim.clock.step(minutes=6)
    sim.settle()
    assert [t["taskArn"] for t in sim.live(ID)] == [second]
    assert sim.stopped == [first]


def test_a_writer_that_dies_between_its_two_writes_costs_a_repair(sim):
    assign(sim)
    sim.settle()
    add_count(sim, 1)
    add_count(sim, -3)
    assert sim.tables.row("records", ID)["sessionCount"] == -1
    sim.settle()
    assert sim.tables.row("records", ID)["sessionCount"] == 1
    sim.tables.delete_row("sessions", "o1")
    sim.settle()
    assert sim.tables.row("records", ID)["sessionCount"] == 0


def test_original_and_own_sessions_share_a_container(sim):
    assign(sim)
    sim.settle()
    assert sim.registry.open("s1", JOHN)
    sim.settle()
    assert len(sim.live(ID)) == 1
    assert sim.tables.row("records", ID)["sessionCount"] == 2
    release(sim)
    sim.registry.touch("s1")
    sim.settle()
    assert sim.tables.row("records", ID)["sessionCount"] == 1
    assert len(sim.live(ID)) == 1


def test_our_library_releases_a_row_of_the_original(sim):
    assign(sim)
    sim.settle()
    assert sim.registry.release("o1")
    assert not sim.registry.release("o1")
    sim.settle()
    assert sim.tables.row("records", ID)["sessionCount"] == 0


def test_a_record_without_a_row_and_without_a_task_needs_nothing(sim):
    add_count(sim, -1)
    sim.settle()
    assert sim.tables.row("records", ID)["sessionCount"] == 0
    assert not sim.live()


def test_rows_of_nobody_are_not_written_at_rest(sim):
    assign(sim)
    sim.settle()
    before = sim.writes()
    for _ in range(5):
        done = sim.round()
        assert not [o for o in done.outcomes if o.status is not OutcomeStatus.SKIPPED]
        sim.clock.step(seconds=10)
    assert sim.writes() == before
    assert sim.ecs.call("ListTasks", {"cluster": CLUSTER})["taskArns"]
