"""What the table ports promise, tried on the in-memory tables and on ours over DynamoDB."""

from __future__ import annotations

from typing import Any

import pytest

from controller.aws.rows import RECORDS, SESSIONS, to_item
from controller.core import ledger
from controller.core.identity import ContainerIdentity
from controller.core.ledger import Absent, Equals, NoLaterThan, OneOf, RecordWrite
from controller.core.model import (
    ContainerRecord,
    ContainerStatus,
    DrainReason,
    Failure,
    Hold,
    Launch,
    Quality,
    Save,
    Session,
)
from controller.core.reads import Lease
from controller.errors import (
    ConditionFailed,
    IdentityConflict,
    InvalidRequest,
    ProtocolError,
    RowError,
    SessionExists,
    SessionNotFound,
)
from tests.adapters.stores import Store
from tests.builders import NOW, TOM, identity, ms, record, session, task
from tests.fakes.tables import NOTES

HOUR = ms("1h")
OWNER = identity(TOM)
# One text, two readings.
SHOP = ContainerIdentity("acme", "shop-api", "bob")
API = ContainerIdentity("acme-shop", "api", "bob")

# Rows as the original system writes them.
ORIGINAL_SESSION: dict[str, Any] = {
    "sessionId": {"S": "7c41f9e2"},
    "containerId": {"S": "ameliastamps-website-john@email.com"},
    "inputQueueUrl": {"S": "https://sqs.eu-west-1.amazonaws.com/123456789012/7c41f9e2-input"},
    "outputQueueUrl": {"S": "https://sqs.eu-west-1.amazonaws.com/123456789012/7c41f9e2-output"},
    "createdAt": {"S": "2026-03-02T09:00:00.000Z"},
    "lastActivity": {"N": "1772442000000"},
}
ORIGINAL_RECORD: dict[str, Any] = {
    "containerId": {"S": "ameliastamps-website-john@email.com"},
    "clientId": {"S": "ameliastamps"},
    "projectId": {"S": "website"},
    "userId": {"S": "john@email.com"},
    "taskArn": {"S": "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0123456789abcdef"},
    "containerIp": {"S": "10.0.3.17"},
    "createdAt": {"S": "2026-03-02T09:00:00.000Z"},
    "lastActivity": {"N": "1772442000000"},
    "sessionCount": {"N": "1"},
    "containerStatus": {"S": "running"},
}


def opened(store: Store, session_id: str = "s1", owner: ContainerIdentity = OWNER, at: int = NOW) -> bool:
    added: bool = store.tables.open(Session(session_id, owner.container_id, owner), owner, at)
    return added


def counted(store: Store, container_id: str = TOM) -> Any:
    row = store.get(RECORDS, container_id)
    return row and row.get("sessionCount")


# Reading


def test_no_rows_completely_seen_is_a_valid_answer(store: Store) -> None:
    sessions, records = store.tables.read_sessions(), store.tables.read_records()

    assert (sessions.sessions, sessions.sight.quality) == ((), Quality.COMPLETE)
    assert (records.records, records.sight.quality) == ((), Quality.COMPLETE)
    assert sessions.sight.read_at == NOW


def test_a_session_row_of_the_original_system(store: Store) -> None:
    store.put(SESSIONS, ORIGINAL_SESSION)

    (row,) = store.tables.read_sessions().sessions

    assert row == Session(
        "7c41f9e2",
        "ameliastamps-website-john@email.com",
        None,
        "https://sqs.eu-west-1.amazonaws.com/123456789012/7c41f9e2-input",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/7c41f9e2-output",
        1772442000000,
        1772442000000,
    )
    assert row.is_original


def test_a_record_of_the_original_system(store: Store) -> None:
    store.put(RECORDS, ORIGINAL_RECORD)

    (row,) = store.tables.read_records().records

    assert row == ContainerRecord(
        "ameliastamps-website-john@email.com",
        ContainerIdentity("ameliastamps", "website", "john@email.com"),
        ContainerStatus.RUNNING,
        "arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0123456789abcdef",
        "10.0.3.17",
        1,
        1772442000000,
        1772442000000,
    )


def test_a_bare_add_of_the_original_system_is_a_record(store: Store) -> None:
    store.add_count(TOM, 1)
    store.add_count(TOM, -1)
    store.add_count(TOM, -1)

    assert store.tables.get_record(TOM) == ContainerRecord(TOM, session_count=-1)


def test_bad_rows_are_put_aside_and_the_rest_goes_on(store: Store) -> None:
    for i in range(5):
        opened(store, f"s{i}")
    store.put(SESSIONS, {"sessionId": {"S": "bad"}, "containerId": {"S": TOM}, "lastActivity": {"S": "NaN"}})
    store.put(RECORDS, {"containerId": {"S": "x-y-z"}, "containerStatus": {"S": "melting"}})

    sessions, records = store.tables.read_sessions(), store.tables.read_records()

    assert {s.session_id for s in sessions.sessions} == {f"s{i}" for i in range(5)}
    (bad,) = sessions.quarantined
    assert (bad.table, bad.key, bad.container_id, bad.first_seen) == ("sessions", "bad", TOM, NOW)
    assert bad.reason == "lastActivity is of type S, not a number: 'NaN'"
    assert [r.container_id for r in records.records] == [TOM]
    assert records.quarantined[0].table == "records"
    assert records.quarantined[0].container_id == "x-y-z"
    assert "containerStatus is none of starting, running" in records.quarantined[0].reason


def test_the_first_sight_of_a_bad_row_is_kept(store: Store) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "bad"}, "containerId": {"S": TOM}, "lastActivity": {"BOOL": True}})
    (bad,) = store.tables.read_sessions().quarantined

    store.tables.note_first_seen(f"{bad.table}#{bad.key}", NOW - HOUR)
    store.tables.note_first_seen(f"{bad.table}#{bad.key}", NOW)

    assert store.tables.read_sessions().quarantined[0].first_seen == NOW - HOUR
    assert store.tables.read_notes().first_seen == {"sessions#bad": NOW - HOUR}
    store.tables.forget_first_seen("sessions#bad")
    assert store.tables.read_notes().first_seen == {}
    assert store.tables.read_sessions().quarantined[0].first_seen == NOW


def test_a_bad_row_read_by_itself_is_an_error(store: Store) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "bad"}, "lastActivity": {"N": "1"}})
    store.put(RECORDS, {"containerId": {"S": TOM}, "generation": {"N": "1.5"}})

    with pytest.raises(RowError, match="containerId is missing"):
        store.tables.get_session("bad")
    with pytest.raises(RowError, match="generation is not a whole number"):
        store.tables.get_record(TOM)


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.tables.get_session("s1") is None
    assert store.tables.get_record(TOM) is None


def test_a_look_sees_records_and_open_rows_of_each_id(store: Store) -> None:
    opened(store, "s1")
    opened(store, "s2")
    opened(store, "e1", identity("acme-shop-eva"))

    look = store.tables.look([TOM, "acme-shop-eva", "no-such-one", TOM])

    assert set(look) == {TOM, "acme-shop-eva", "no-such-one"}
    assert {s.session_id for s in look[TOM].sessions} == {"s1", "s2"}
    assert look[TOM].record.session_count == 2
    assert [s.session_id for s in look["acme-shop-eva"].sessions] == ["e1"]
    assert (look["no-such-one"].record, look["no-such-one"].sessions) == (None, ())
    assert all(seen.readable for seen in look.values())


def test_a_look_says_when_a_row_cannot_be_read(store: Store) -> None:
    for container_id in ("a-b-c", "d-e-f", "g-h-i"):
        opened(store, f"of {container_id}", identity(container_id))
    store.put(SESSIONS, {"sessionId": {"S": "bad"}, "containerId": {"S": "a-b-c"}, "lastActivity": {"S": "soon"}})
    store.put(RECORDS, {"containerId": {"S": "d-e-f"}, "sessionCount": {"N": "1E+125"}})

    look = store.tables.look(["a-b-c", "d-e-f", "g-h-i"])

    assert {i: seen.readable for i, seen in look.items()} == {"a-b-c": False, "d-e-f": False, "g-h-i": True}
    assert look["d-e-f"].record is None
    assert [s.session_id for s in look["a-b-c"].sessions] == ["of a-b-c"]


def test_a_look_at_many(store: Store) -> None:
    ids = [f"acme-blog-u{i}" for i in range(120)]
    for i in (3, 119):
        opened(store, f"s{i}", identity(ids[i]))

    look = store.tables.look(ids)

    assert {i for i, seen in look.items() if seen.sessions} == {ids[3], ids[119]}
    assert {i for i, seen in look.items() if seen.record} == {ids[3], ids[119]}


def test_a_look_at_nothing(store: Store) -> None:
    assert store.tables.look([]) == {}


# The controller table


def test_a_pause_is_put_on_and_taken_off(store: Store) -> None:
    assert store.tables.read_notes().pause is None
    assert store.tables.clear_pause() is False

    store.tables.set_pause("ops", "deploying", NOW + HOUR)
    store.tables.set_pause("ops", "still deploying", NOW + 2 * HOUR)

    assert store.tables.read_notes().pause == Hold("ops", "still deploying", NOW + 2 * HOUR)
    assert store.tables.clear_pause() is True
    assert store.tables.read_notes().pause is None


def test_a_pause_that_cannot_be_read_is_a_pause(store: Store) -> None:
    store.put(NOTES, {"name": {"S": "pause"}, "by": {"S": "ops"}, "until": {"S": "2026-03-02"}})

    pause = store.tables.read_notes().pause

    assert pause.in_force(NOW + 1000 * ms("365d"))
    assert pause.reason == "the pause row cannot be read: until is of type S, not a number: '2026-03-02'"


def test_the_lease_goes_to_one(store: Store) -> None:
    mine, yours = Lease("a", 1, 1, 15_000), Lease("b", 1, 1, 15_000)
    assert store.lease.read_lease() is None

    store.lease.write_lease(mine, None)
    with pytest.raises(ConditionFailed):
        store.lease.write_lease(yours, None)

    assert store.lease.read_lease() == mine
    store.lease.write_lease(Lease("b", 2, 2, 15_000), mine)
    with pytest.raises(ConditionFailed):
        store.lease.write_lease(Lease("a", 2, 1, 15_000), mine)
    assert store.lease.read_lease().holder == "b"


def test_a_broken_lease_row_can_be_taken(store: Store) -> None:
    store.put(NOTES, {"name": {"S": "lease"}, "holder": {"N": "5"}, "version": {"S": "x"}})

    there = store.lease.read_lease()
    store.lease.write_lease(Lease("a", there.version + 1, there.epoch + 1, 15_000), there)

    assert (there.holder, there.version) == ("", 0)
    assert store.lease.read_lease().holder == "a"


# Conditional writes


def test_every_write_of_a_container_s_life_goes_through_in_order(store: Store) -> None:
    tables = store.tables
    fresh = ContainerRecord(TOM)
    launch = Launch(NOW, '{"clientToken":"t"}', "k1")

    claimed = tables.write(ledger.claim(fresh, OWNER, 1, launch, "2026-03-02T10:00:00.000Z"))
    assert claimed == ContainerRecord(TOM, OWNER, ContainerStatus.STARTING, created_at=NOW, generation=1, launch=launch)
    named = tables.write(ledger.record_arn(TOM, 1, task().arn))
    running = tables.write(ledger.correct(named, task()))
    assert (running.status, running.container_ip) == (ContainerStatus.RUNNING, "10.0.0.1")
    empty = tables.write(ledger.set_empty(running, NOW))
    assert empty.empty_since == NOW
    draining = tables.write(ledger.begin_drain(empty, DrainReason.IDLE, NOW, NOW + HOUR))
    back = tables.write(ledger.cancel_drain(draining))
    assert (back.status, back.empty_since, back.last_drain_id) == (ContainerStatus.RUNNING, None, 1)
    draining = tables.write(ledger.begin_drain(back, DrainReason.IDLE, NOW, NOW + HOUR))
    assert (draining.drain.id, draining.drain.stopping_at) == (2, None)
    stopping = tables.write(ledger.write_stopping(draining, NOW))
    assert stopping.drain.stopping_at == NOW
    reverted = tables.write(ledger.revert_stopping(stopping, NOW, as_activity=False))
    assert (reverted.status, reverted.drain.stopping_at) == (ContainerStatus.RUNNING, None)
    stopping = tables.write(
        ledger.write_stopping(tables.write(ledger.begin_drain(reverted, DrainReason.IDLE, NOW, NOW + HOUR)), NOW)
    )
    confirmed = tables.write(ledger.confirm_stop(stopping, NOW))
    assert confirmed.stop_confirmed
    ended = tables.write(ledger.terminated(confirmed, Save("saved", branch="main", at=NOW)))
    assert (ended.names_no_task, ended.save.state, ended.launch) == (True, "saved", None)
    again = tables.write(ledger.claim(ended, OWNER, 2, launch, "2026-03-02T10:00:00.000Z"))
    failed = tables.write(ledger.failed(again, Failure(1, "RESOURCE:CPU", NOW, NOW + 10_000)))
    assert (failed.status, failed.failure.count) == (ContainerStatus.FAILED, 1)
    assert tables.get_record(TOM) == failed


def test_a_refused_write_changes_nothing_and_shows_what_is_there(store: Store) -> None:
    opened(store)
    before = store.get(RECORDS, TOM)
    assert before is not None

    with pytest.raises(ConditionFailed) as refused:
        store.tables.write(ledger.record_arn(TOM, 1, "arn"))

    assert store.get(RECORDS, TOM) == before
    assert refused.value.item == before
    assert refused.value.record == store.tables.get_record(TOM)
    assert refused.value.code == "ConditionalCheckFailedException"


def test_a_write_refused_by_an_unreadable_row_shows_it_raw(store: Store) -> None:
    store.put(RECORDS, {"containerId": {"S": TOM}, "containerStatus": {"S": "melting"}})

    with pytest.raises(ConditionFailed) as refused:
        store.tables.write(ledger.record_arn(TOM, 1, "arn"))

    assert refused.value.item == {"containerId": TOM, "containerStatus": "melting"}
    assert refused.value.record is None


def test_a_write_to_a_row_that_is_not_there(store: Store) -> None:
    with pytest.raises(ConditionFailed) as refused:
        store.tables.write(ledger.record_arn(TOM, 1, "arn"))

    assert (refused.value.item, refused.value.record) == (None, None)
    assert store.get(RECORDS, TOM) is None


def test_of_two_claims_one_wins(store: Store) -> None:
    fresh = ContainerRecord(TOM)
    store.tables.write(ledger.claim(fresh, OWNER, 1, Launch(NOW, "{}"), "2026-03-02T10:00:00Z"))

    with pytest.raises(ConditionFailed):
        store.tables.write(ledger.claim(fresh, OWNER, 1, Launch(NOW + 1, "{}"), "2026-03-02T10:00:00Z"))

    assert store.tables.get_record(TOM).launch.requested_at == NOW


def test_the_fence_refuses_a_drain_when_somebody_came(store: Store) -> None:
    opened(store, at=NOW - HOUR)
    base = store.tables.write(ledger.claim(store.tables.get_record(TOM), OWNER, 1, Launch(NOW, "{}"), ""))
    seen = store.tables.write(ledger.correct(store.tables.write(ledger.record_arn(TOM, 1, task().arn)), task()))
    assert base.generation == 1

    store.tables.touch("s1", TOM, NOW)

    with pytest.raises(ConditionFailed):
        store.tables.write(ledger.begin_drain(seen, DrainReason.IDLE, NOW, NOW + HOUR))
    # An operator's stop does not wait for users to be quiet.
    forced = store.tables.write(ledger.begin_drain(seen, DrainReason.DECLARED, NOW, NOW + HOUR))
    assert forced.drain.reason is DrainReason.DECLARED


@pytest.mark.parametrize(
    ("hold", "goes"),
    [
        (None, True),
        ({"NULL": True}, True),
        ({"M": {"by": {"S": "ops"}, "reason": {"S": "r"}, "until": {"N": str(NOW)}}}, True),
        ({"M": {"by": {"S": "ops"}, "reason": {"S": "r"}, "until": {"N": str(NOW + 1)}}}, False),
        ({"M": {"until": {"S": "2020-01-01"}}}, False),
    ],
)
def test_a_hold_in_force_refuses(store: Store, hold: Any, goes: bool) -> None:
    store.put(RECORDS, {"containerId": {"S": TOM}, **({"hold": hold} if hold else {})})
    write = RecordWrite(TOM, ledger.no_hold(NOW), {("generation",): 7}, (("hold",),))

    if goes:
        assert store.tables.write(write).generation == 7
    else:
        with pytest.raises(ConditionFailed):
            store.tables.write(write)


@pytest.mark.parametrize("value", [None, {"NULL": True}, {"S": ""}], ids=["missing", "NULL", "empty"])
def test_absent_means_missing_null_or_empty_to_reading_and_writing_alike(store: Store, value: Any) -> None:
    store.put(RECORDS, {"containerId": {"S": TOM}, **({"taskArn": value, "containerStatus": value} if value else {})})

    seen = store.tables.get_record(TOM)
    claimed = store.tables.write(ledger.claim(seen, OWNER, 1, Launch(NOW, "{}"), "2026-03-02T10:00:00Z"))

    assert (seen.task_arn, seen.status) == (None, None)
    assert store.tables.write(ledger.record_arn(TOM, 1, "arn:x")).task_arn == "arn:x"
    assert claimed.status is ContainerStatus.STARTING


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Equals(("generation",), 3), True),
        (Equals(("generation",), "3"), False),
        (Equals(("generation",), 4), False),
        (Equals(("missing",), 3), False),
        (Equals(("drain", "id"), 2), True),
        (Equals(("drain", "id"), 1), False),
        (Equals(("containerIp", "id"), 1), False),
        (Equals(("containerIp",), "10.0.0.1"), True),
        (Absent(("missing",)), True),
        (Absent(("generation",)), False),
        (Absent(("drain", "confirmedAt")), True),
        (Absent(("drain", "id")), False),
        (Absent(("missing", "id")), True),
        (Absent(("containerId",)), False),
        (OneOf(("containerStatus",), ("failed", "running")), True),
        (OneOf(("containerStatus",), ("failed", "terminated")), False),
        (OneOf(("containerStatus",), ("failed",), or_absent=True), False),
        (OneOf(("missing",), ("failed",)), False),
        (OneOf(("missing",), ("failed",), or_absent=True), True),
        (NoLaterThan(("generation",), 3), True),
        (NoLaterThan(("generation",), 2), False),
        (NoLaterThan(("missing",), 2), True),
        (NoLaterThan(("containerIp",), 2), False),
        (NoLaterThan(("drain", "id"), 1), False),
    ],
)
def test_what_each_condition_means(store: Store, condition: ledger.Condition, holds: bool) -> None:
    store.put(
        RECORDS,
        {
            "containerId": {"S": TOM},
            "generation": {"N": "3"},
            "containerStatus": {"S": "running"},
            "containerIp": {"S": "10.0.0.1"},
            "drain": {"M": {"id": {"N": "2"}, "reason": {"S": "Idle"}, "requestedAt": {"N": "1"}}},
        },
    )
    write = RecordWrite(TOM, (condition,), {("emptySince",): 5})

    if holds:
        assert store.tables.write(write).empty_since == 5
    else:
        with pytest.raises(ConditionFailed):
            store.tables.write(write)


@pytest.mark.parametrize(
    ("sets", "remove"),
    [
        ({("drain", "stoppingAt"): 1}, ()),
        ({("containerId",): "other"}, ()),
        ({("drain",): {"id": 1}, ("drain", "stoppingAt"): 1}, ()),
        ({("taskArn",): "x"}, (("taskArn",),)),
    ],
    ids=["into a map that is not there", "the key", "overlapping", "set and removed"],
)
def test_a_write_that_cannot_be_is_an_error(store: Store, sets: Any, remove: Any) -> None:
    if remove and store.lenient:
        pytest.skip("this engine takes it")
    store.put(RECORDS, {"containerId": {"S": TOM}})

    with pytest.raises(InvalidRequest):
        store.tables.write(RecordWrite(TOM, (), sets, remove))

    assert store.get(RECORDS, TOM) == {"containerId": TOM}


def test_an_orphan_s_record_is_made_only_where_there_is_none(store: Store) -> None:
    made = store.tables.write(ledger.adopt_orphan(task(), NOW, "2026-03-02T10:00:00Z", NOW + HOUR))

    assert (made.status, made.session_count, made.identity) == (ContainerStatus.DRAINING, 0, OWNER)
    with pytest.raises(ConditionFailed):
        store.tables.write(ledger.adopt_orphan(task(), NOW, "2026-03-02T10:00:00Z", NOW + HOUR))


def test_count_repair_is_a_compare_and_set(store: Store) -> None:
    store.add_count(TOM, 5)
    seen = store.tables.get_record(TOM)

    raised = store.tables.write(ledger.repair_count(seen, 6, NOW))

    assert (raised.session_count, raised.last_activity) == (6, NOW)
    with pytest.raises(ConditionFailed):
        store.tables.write(ledger.repair_count(seen, 4, NOW))
    lowered = store.tables.write(ledger.repair_count(raised, 4, NOW + 1))
    assert (lowered.session_count, lowered.last_activity) == (4, NOW)


def test_holds_go_on_and_off(store: Store) -> None:
    with pytest.raises(ConditionFailed):
        store.tables.write(ledger.set_hold(ContainerRecord(TOM), "ops", "why", NOW + HOUR))
    store.add_count(TOM, 0)

    held = store.tables.write(ledger.set_hold(ContainerRecord(TOM), "ops", "why", NOW + HOUR))

    assert held.hold == Hold("ops", "why", NOW + HOUR)
    assert store.tables.write(ledger.lift_hold(held)).hold is None


# Session writers


def test_open_puts_the_row_and_counts_it(store: Store) -> None:
    new = session("s1", created_at=NOW - 5, input_queue_url="https://q/in", output_queue_url="https://q/out")

    assert store.tables.open(new, OWNER, NOW) is True

    assert store.get(SESSIONS, "s1") == {
        "sessionId": "s1",
        "containerId": TOM,
        "inputQueueUrl": "https://q/in",
        "outputQueueUrl": "https://q/out",
        "createdAt": "2026-03-02T09:59:59.995Z",
        "lastActivity": NOW,
        "clientId": "acme",
        "projectId": "blog",
        "userId": "tom",
    }
    assert store.get(RECORDS, TOM) == {
        "containerId": TOM,
        "sessionCount": 1,
        "lastActivity": NOW,
        "clientId": "acme",
        "projectId": "blog",
        "userId": "tom",
    }
    assert store.tables.get_session("s1").identity == OWNER


def test_open_twice_counts_once(store: Store) -> None:
    assert opened(store) is True
    row = store.get(SESSIONS, "s1")

    assert opened(store, at=NOW + 5) is False

    assert (counted(store), store.get(SESSIONS, "s1")) == (1, row)


def test_open_of_a_session_that_the_original_writer_opened(store: Store) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}, "lastActivity": {"N": str(NOW)}})
    store.add_count(TOM, 1)

    assert opened(store) is False
    assert counted(store) == 1


def test_open_on_another_container(store: Store) -> None:
    opened(store)

    with pytest.raises(SessionExists, match="session 's1' is open on container 'acme-blog-tom'"):
        opened(store, "s1", identity("acme-shop-eva"))

    assert counted(store, "acme-shop-eva") is None


def test_open_fills_in_the_triple_of_a_bare_record(store: Store) -> None:
    store.add_count(TOM, 2)

    opened(store)

    record = store.tables.get_record(TOM)
    assert (record.session_count, record.identity) == (3, OWNER)


def test_open_for_another_triple_of_the_same_text(store: Store) -> None:
    assert SHOP.container_id == API.container_id
    opened(store, "s1", SHOP)

    with pytest.raises(IdentityConflict) as conflict:
        opened(store, "s2", API)
    with pytest.raises(IdentityConflict):
        opened(store, "s1", API)

    assert conflict.value.what == "container id 'acme-shop-api-bob' belongs to acme + shop-api + bob"
    assert store.get(SESSIONS, "s2") is None
    assert counted(store, SHOP.container_id) == 1


def test_open_of_what_does_not_belong_together(store: Store) -> None:
    with pytest.raises(ProtocolError):
        store.tables.open(session("s1"), identity("acme-shop-eva"), NOW)
    with pytest.raises(ProtocolError):
        store.tables.open(Session("s1", SHOP.container_id, API), SHOP, NOW)


def test_open_on_a_count_that_is_no_number(store: Store) -> None:
    store.put(RECORDS, {"containerId": {"S": TOM}, "sessionCount": {"S": "one"}})

    with pytest.raises(InvalidRequest):
        opened(store)

    assert store.get(SESSIONS, "s1") is None


def test_touch_moves_both(store: Store) -> None:
    opened(store)

    store.tables.touch("s1", TOM, NOW + 7)

    assert store.get(SESSIONS, "s1")["lastActivity"] == NOW + 7  # type: ignore[index]
    assert store.tables.get_record(TOM).last_activity == NOW + 7


def test_touch_by_a_writer_whose_clock_is_behind_moves_the_fence_too(store: Store) -> None:
    opened(store)

    store.tables.touch("s1", TOM, NOW - 7)

    assert store.tables.get_record(TOM).last_activity == NOW - 7


def test_touch_of_an_original_row(store: Store) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}, "lastActivity": {"N": "5"}})
    store.add_count(TOM, 1)

    store.tables.touch("s1", TOM, NOW)

    row = store.tables.get_session("s1")
    assert (row.last_activity, row.is_original) == (NOW, True)


def test_touch_never_revives(store: Store) -> None:
    opened(store)
    with pytest.raises(SessionNotFound, match="not open on container 'acme-shop-eva'"):
        store.tables.touch("s1", "acme-shop-eva", NOW)
    store.tables.release("s1", TOM, NOW)
    with pytest.raises(SessionNotFound) as gone:
        store.tables.touch("s1", TOM, NOW)
    assert gone.value.why == "its row is gone, or is another container's"
    assert store.get(SESSIONS, "s1") is None

    store.put(SESSIONS, {"sessionId": {"S": "s2"}, "containerId": {"S": "a-b-c"}, "lastActivity": {"N": "5"}})
    with pytest.raises(SessionNotFound) as gone:
        store.tables.touch("s2", "a-b-c", NOW)
    assert gone.value.why == "the container has no record"
    assert store.get(SESSIONS, "s2")["lastActivity"] == 5  # type: ignore[index]
    assert store.get(RECORDS, "a-b-c") is None


def test_release_takes_the_row_and_the_count(store: Store) -> None:
    opened(store, "s1")
    opened(store, "s2")

    assert store.tables.release("s1", TOM, NOW + 9) is True

    record = store.tables.get_record(TOM)
    assert (record.session_count, record.last_activity) == (1, NOW + 9)
    assert store.get(SESSIONS, "s1") is None
    assert store.get(SESSIONS, "s2") is not None


def test_release_twice_counts_once_and_does_not_move_the_fence(store: Store) -> None:
    opened(store, "s1")
    opened(store, "s2")
    store.tables.release("s1", TOM, NOW + 1)

    assert store.tables.release("s1", TOM, NOW + 2) is False
    assert store.tables.release("s2", "acme-shop-eva", NOW + 2) is False

    record = store.tables.get_record(TOM)
    assert (record.session_count, record.last_activity) == (1, NOW + 1)
    assert store.get(SESSIONS, "s2") is not None


@pytest.mark.parametrize("count", [{"N": "0"}, {"N": "-3"}, {"S": "one"}, {"NULL": True}, None])
def test_release_never_goes_below_zero(store: Store, count: Any) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}, "lastActivity": {"N": "5"}})
    store.put(RECORDS, {"containerId": {"S": TOM}, **({"sessionCount": count} if count else {})})

    assert store.tables.release("s1", TOM, NOW) is True

    record = store.tables.get_record(TOM)
    assert (record.session_count, record.last_activity) == (0, NOW)
    assert store.get(SESSIONS, "s1") is None


def test_release_of_a_row_whose_container_has_no_record(store: Store) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}, "lastActivity": {"N": "5"}})

    assert store.tables.release("s1", TOM, NOW) is True

    assert store.tables.get_record(TOM) == ContainerRecord(TOM, session_count=0, last_activity=NOW)


def test_a_late_bare_add_after_a_release_is_left_to_the_recount(store: Store) -> None:
    store.put(SESSIONS, {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}, "lastActivity": {"N": "5"}})
    store.tables.release("s1", TOM, NOW)

    store.add_count(TOM, 1)

    look = store.tables.look([TOM])[TOM]
    assert (look.record.session_count, look.sessions) == (1, ())
    assert store.tables.write(ledger.repair_count(look.record, 0, NOW)).session_count == 0


def test_want_makes_the_record_and_never_shortens(store: Store) -> None:
    first = store.tables.want(OWNER, NOW + HOUR, NOW)
    assert first == ContainerRecord(TOM, OWNER, last_activity=NOW, wanted_until=NOW + HOUR)

    shorter = store.tables.want(OWNER, NOW + 5, NOW + 1)
    assert (shorter.wanted_until, shorter.last_activity) == (NOW + HOUR, NOW + 1)

    longer = store.tables.want(OWNER, NOW + 2 * HOUR, NOW + 2)
    assert (longer.wanted_until, longer.last_activity) == (NOW + 2 * HOUR, NOW + 2)

    same = store.tables.want(OWNER, NOW + 2 * HOUR, NOW + 3)
    assert (same.wanted_until, same.last_activity) == (NOW + 2 * HOUR, NOW + 3)


def test_want_leaves_the_rest_of_the_record_alone(store: Store) -> None:
    store.put(RECORDS, ORIGINAL_RECORD)
    john = ContainerIdentity("ameliastamps", "website", "john@email.com")
    before = store.get(RECORDS, john.container_id)
    assert before is not None

    store.tables.want(john, NOW + HOUR, NOW)

    assert store.get(RECORDS, john.container_id) == {**before, "wantedUntil": NOW + HOUR, "lastActivity": NOW}


def test_want_for_another_triple_of_the_same_text(store: Store) -> None:
    store.tables.want(SHOP, NOW + HOUR, NOW)

    with pytest.raises(IdentityConflict):
        store.tables.want(API, NOW + 2 * HOUR, NOW)

    assert store.tables.get_record(SHOP.container_id).identity == SHOP


def test_want_on_a_wish_that_cannot_be_read(store: Store) -> None:
    store.put(RECORDS, {"containerId": {"S": TOM}, "wantedUntil": {"S": "tomorrow"}})

    with pytest.raises(RowError, match="wantedUntil is of type S"):
        store.tables.want(OWNER, NOW + HOUR, NOW)

    assert store.get(RECORDS, TOM) == {"containerId": TOM, "wantedUntil": "tomorrow"}


def test_every_field_of_a_record_is_read_back_as_it_was_written(store: Store) -> None:
    full = {
        "containerId": TOM,
        "clientId": "acme",
        "projectId": "blog",
        "userId": "tom",
        "containerStatus": "stopping",
        "taskArn": "arn:1",
        "containerIp": "10.0.0.9",
        "sessionCount": 2,
        "createdAt": "2026-03-02T09:00:00.000Z",
        "lastActivity": NOW,
        "generation": 4,
        "launch": {"requestedAt": NOW, "keyId": "k", "request": '{"a":1}'},
        "wantedUntil": NOW + 1,
        "emptySince": NOW - 1,
        "drain": {
            "id": 3,
            "reason": "NoSessions",
            "requestedAt": 1,
            "deadline": 2,
            "stoppingAt": 3,
            "confirmedAt": 4,
        },
        "save": {
            "state": "rescued",
            "branch": "main",
            "commit": "c1",
            "remoteCommit": "c2",
            "rescueRef": "rescue/x",
            "at": 5,
            "message": "non-fast-forward",
        },
        "failure": {"count": 2, "reason": "RESOURCE:CPU", "at": 6, "retryAt": 7},
        "hold": {"by": "ops", "reason": "r", "until": 8},
        "declared": {
            "uid": "u",
            "generation": 9,
            "runPolicy": "Stopped",
            "idleTimeout": 10,
            "cpu": "512",
            "memory": "1024",
            "hold": {"by": "gitops", "reason": "freeze", "until": 11},
        },
    }
    store.put(RECORDS, to_item(full))

    read = store.tables.get_record(TOM)

    assert (read.drain.id, read.drain.stopping_at, read.drain.confirmed_at) == (3, 3, 4)
    assert read.stop_confirmed
    assert (read.save.state, read.save.rescue_ref, read.save.message) == ("rescued", "rescue/x", "non-fast-forward")
    assert (read.failure.retry_at, read.hold.until) == (7, 8)
    assert (read.declared.run_policy, read.declared.hold.reason) == ("Stopped", "freeze")
    assert (read.launch.request, read.wanted_until, read.empty_since) == ('{"a":1}', NOW + 1, NOW - 1)


def test_a_builders_record_can_stand_in_the_table(store: Store) -> None:
    """The builders that other tests plan with are rows that a table can hold."""
    built = record("draining")

    assert built.drain is not None
    store.put(
        RECORDS,
        to_item({"containerId": built.container_id, "drain": {"id": 1, "reason": "Idle", "requestedAt": NOW}}),
    )

    assert store.tables.get_record(TOM).drain.reason is built.drain.reason
