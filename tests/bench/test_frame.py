"""The measuring instruments, measured: quotas, virtual time, read units, DynamoDB's conditions, and the fleet at rest.

Nothing here looks at how long something takes; what is compared are counts.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.aws.rows import RECORDS, SESSIONS, from_item, to_item
from controller.aws.schema import TableNames
from controller.aws.tables import Tables
from controller.core import ledger
from controller.core.identity import ContainerIdentity
from controller.core.ledger import RecordWrite
from controller.core.model import MINUTE, SECOND, ContainerRecord, DrainReason, Launch, Session
from controller.errors import AwsError, ConditionFailed
from controller.local.ecs import StrictEcs
from controller.local.errors import EcsError
from tests.bench import storm
from tests.bench.comparators import Culler, Naive
from tests.bench.dynamodb import DynamoDb, Table, item_size, scan_pages
from tests.bench.frame import percentile, ratio, spread
from tests.bench.quotas import BUCKETS, FARGATE_RUN_TASK, MODIFY, READ, Quota, Quotas
from tests.bench.virtual import VirtualTime
from tests.bench.wire import Wire
from tests.bench.world import AfterOneTurn, Until, World, nth_identity
from tests.builders import NOW, TOM, drain, failure, hold, identity, record, session, task
from tests.fakes.clock import START_MS, FakeClock
from tests.fakes.tables import FakeTables

# Quotas


def issued(operation: str, at: list[int]) -> Counter[bool]:
    """Return how many calls at these times are throttled (True) and how many are not, on a schedule of their own."""
    clock = FakeClock(0)
    ecs = StrictEcs(clock, admit=Quotas(0).admit)
    found: Counter[bool] = Counter()
    for when in at:
        clock.set(when)
        try:
            ecs.call(operation, {})
        except EcsError as error:
            found[error.code == "ThrottlingException"] += 1
        else:
            found[False] += 1
    return found


def schedule(quota: Quota, calls: int, faster: float = 1.0) -> list[int]:
    """Return the times of a client that uses up the burst at once, then keeps to the refill or is faster than that."""
    paced = range(1, calls - quota.burst + 1)
    return [0] * quota.burst + [int(-(-SECOND * n // (quota.per_second * faster))) for n in paced]


@pytest.mark.parametrize(
    ("operation", "quota"),
    [("RunTask", FARGATE_RUN_TASK), ("StopTask", MODIFY), ("ListTasks", READ), ("DescribeTasks", READ)],
)
def test_who_keeps_to_the_floor_is_never_throttled_and_who_is_5_percent_faster_is(operation, quota):
    at_the_floor = schedule(quota, 1_000)
    assert at_the_floor[-1] == quota.floor(1_000) * SECOND
    assert issued(operation, at_the_floor)[True] == 0
    faster = issued(operation, schedule(quota, 1_000, 1.05))
    # Of what comes too fast, all is refused but what the rounding of the times lets through.
    assert faster[True] == pytest.approx((1_000 - quota.burst) * (1 - 1 / 1.05), abs=2)


def test_a_thousand_launches_take_49_seconds_at_least():
    assert FARGATE_RUN_TASK.floor(1_000) == 49


@given(st.lists(st.integers(0, 3 * SECOND), max_size=200), st.sampled_from(sorted(BUCKETS)))
def test_no_stretch_of_time_admits_more_than_burst_and_refill(gaps, operation):
    quotas, now, admitted = Quotas(0), 0, []
    for gap in gaps:
        now += gap // 20
        try:
            quotas.admit(operation, now)
        except EcsError:
            continue
        admitted.append(now)
    for quota in BUCKETS[operation]:
        for first, start in enumerate(admitted):
            for last, end in enumerate(admitted[first:], start=1):
                assert last * SECOND <= quota.burst * SECOND + (end - start) * quota.per_second


def test_run_and_stop_draw_on_one_bucket_and_a_refused_call_on_none():
    quotas = Quotas(0)
    for _ in range(MODIFY.burst):
        quotas.admit("StopTask", 0)
    with pytest.raises(EcsError, match="ThrottlingException"):
        quotas.admit("RunTask", 0)
    for _ in range(FARGATE_RUN_TASK.burst):
        quotas.admit("RunTask", SECOND)
    assert quotas.refused == {"RunTask": 1}


# Virtual time


def test_a_pool_waits_side_by_side_and_answers_in_order():
    virtual = VirtualTime(charge_cpu=False)
    finished = []

    def work(number: int) -> int:
        virtual.sleep(10 - number)
        finished.append(number)
        return number

    with virtual.pool(4) as pool:
        assert list(pool.map(work, range(4))) == [0, 1, 2, 3]
    assert finished == [3, 2, 1, 0]
    assert virtual() == START_MS + 10 * SECOND
    with virtual.pool(2) as pool:
        assert list(pool.map(work, [0, 0, 0, 0])) == [0, 0, 0, 0]
    assert virtual() == START_MS + 30 * SECOND


def test_a_pool_hands_on_an_error_and_still_ends_what_was_begun():
    virtual = VirtualTime(charge_cpu=False)
    ended = []

    def work(number: int) -> None:
        virtual.sleep(number)
        ended.append(number)
        if number == 1:
            raise LookupError("of the first")

    with pytest.raises(LookupError), virtual.pool(3) as pool:
        list(pool.map(work, [1, 2, 3]))
    assert ended == [1, 2, 3]


def test_what_is_to_happen_at_a_time_happens_then_whoever_waits():
    virtual = VirtualTime(charge_cpu=False)
    seen = []
    virtual.at(START_MS + 2 * SECOND, lambda: seen.append(virtual.now))
    virtual.sleep(1)
    assert not seen
    virtual.sleep(5)
    assert seen == [START_MS + 2 * SECOND]
    assert virtual() == START_MS + 6 * SECOND


def test_only_the_measured_code_takes_time_and_only_if_it_is_charged():
    free, charged = VirtualTime(charge_cpu=False), VirtualTime(charge_cpu=True)
    for virtual in (free, charged):
        with virtual.outside():
            sum(range(300_000))
        sum(range(300_000))
        virtual()
    assert free() == START_MS < charged()
    assert free.cpu > 0
    assert charged() - START_MS <= charged.cpu * SECOND


def test_nobody_left_to_move_time_on_is_an_error():
    virtual = VirtualTime(charge_cpu=False)
    with pytest.raises(RuntimeError, match="time cannot move on"):
        virtual.wait_for_news()


# DynamoDB


def rows(number: int, size: int = 512) -> DynamoDb:
    dynamodb = DynamoDb(TableNames())
    for n in range(number):
        item = to_item({"sessionId": f"s{n:06d}", "containerId": TOM, "x": ""})
        item["x"] = {"S": "x" * (size - item_size(item))}
        dynamodb.sessions.put(item)
    return dynamodb


def on_the_wire(dynamodb: DynamoDb, virtual: VirtualTime) -> Any:
    return Wire(virtual, dynamodb, StrictEcs(virtual)).clients().dynamodb


def test_ten_thousand_rows_of_half_a_kilobyte_cost_what_the_design_says():
    dynamodb, virtual = rows(10_000), VirtualTime(charge_cpu=False)
    client = on_the_wire(dynamodb, virtual)
    for strong, units in ((False, 625), (True, 1250)):
        dynamodb.meter.restart()
        pages = list(
            client.get_paginator("scan").paginate(TableName="webordinary-edit-sessions", ConsistentRead=strong)
        )
        assert len(pages) == scan_pages(dynamodb.sessions) == 5
        assert len({item["sessionId"]["S"] for page in pages for item in page["Items"]}) == 10_000
        assert dynamodb.meter.read_units == pytest.approx(units, abs=3)


def test_sizes_are_counted_as_dynamodb_counts_them():
    assert item_size(to_item({"a": "xyz"})) == 4
    assert item_size(to_item({"n": 1_772_445_600_123})) == 1 + 8
    assert item_size(to_item({"n": 1_772_445_600_000})) == 1 + 5
    assert item_size(to_item({"m": {"a": "x"}})) == 1 + 3 + (1 + 1 + 1)
    assert item_size({"b": {"BOOL": True}, "z": {"NULL": True}}) == 4


def test_a_table_keeps_its_pages_apart_whatever_goes_in_between():
    table = Table("sessionId")
    for n in range(10):
        table.put(to_item({"sessionId": f"s{n}", "x": "x" * 300_000}))
    first, last = table.page(None)
    assert last is not None
    table.delete(last)
    table.put(to_item({"sessionId": last + "a"}))
    second, _ = table.page(last)
    assert second[0].item["sessionId"]["S"] == last + "a"
    assert not {r.item["sessionId"]["S"] for r in first} & {r.item["sessionId"]["S"] for r in second}


SIGHTS = {
    "nothing": None,
    "at rest": record("terminated"),
    "starting": record("starting", task_arn=None),
    "running": record(),
    "held": record(hold=hold()),
    "draining": record("draining"),
    "stopping": record("stopping", drain=drain(stopping_at=NOW)),
    "confirmed": record("stopping", drain=drain(stopping_at=NOW, confirmed_at=NOW)),
}
WRITES: dict[str, RecordWrite] = {
    "claim": ledger.claim(record("terminated"), identity(), 2, Launch(NOW, "{}"), "2026-03-02T10:00:00.000Z"),
    "record ARN": ledger.record_arn(TOM, 1, task().arn),
    "correct": ledger.correct(record(container_ip=None), task()),
    "failed": ledger.failed(record(), failure()),
    "terminated": ledger.terminated(record("stopping")),
    "adopt": ledger.adopt(None, task(), "2026-03-02T10:00:00.000Z"),
    "adopt an orphan": ledger.adopt_orphan(task(), NOW, "2026-03-02T10:00:00.000Z", NOW + MINUTE),
    "count": ledger.repair_count(record(), 2, NOW),
    "set empty": ledger.set_empty(record(), NOW),
    "drain": ledger.begin_drain(record(), DrainReason.IDLE, NOW, NOW + MINUTE),
    "write stopping": ledger.write_stopping(record("draining"), NOW),
    "confirm": ledger.confirm_stop(record("stopping"), NOW),
    "hold": ledger.set_hold(record(), "ops", "why", NOW + MINUTE),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_conditional_write_does_what_it_does_in_the_tables_that_all_tests_trust(write):
    virtual = VirtualTime(charge_cpu=False)
    dynamodb, trusted = DynamoDb(TableNames()), FakeTables(virtual)
    tables = Tables(on_the_wire(dynamodb, virtual), TableNames(), virtual, pause=lambda _: None)
    done = {}
    for sight, there in SIGHTS.items():
        dynamodb.records.delete(TOM)
        trusted.delete_row(RECORDS, TOM)
        if there is not None:
            dynamodb.records.put(row_of(there))
            trusted.put_row(RECORDS, row_of(there))
        done[sight] = outcome(tables, WRITES[write])
        assert done[sight] == outcome(trusted, WRITES[write])
        row = dynamodb.records.row(TOM)
        assert (from_item(row.item) if row else None) == trusted.row(RECORDS, TOM)
    worked = [sight for sight, result in done.items() if isinstance(result, ContainerRecord)]
    assert 0 < len(worked) < len(SIGHTS)


def row_of(there: Any) -> dict[str, Any]:
    """Return the row of a record, as far as these writes look at it."""
    values: dict[str, Any] = {
        "containerId": there.container_id,
        "clientId": there.identity.client_id,
        "projectId": there.identity.project_id,
        "userId": there.identity.user_id,
        "containerStatus": there.status.value,
        "taskArn": there.task_arn,
        "sessionCount": there.session_count,
        "lastActivity": there.last_activity,
        "generation": there.generation,
        "hold": there.hold and {"by": there.hold.by, "reason": there.hold.reason, "until": there.hold.until},
        "drain": there.drain
        and {
            "id": there.drain.id,
            "reason": there.drain.reason.value,
            "requestedAt": there.drain.requested_at,
            "stoppingAt": there.drain.stopping_at,
            "confirmedAt": there.drain.confirmed_at,
        },
    }
    if there.drain:
        values["drain"] = {name: value for name, value in values["drain"].items() if value is not None}
    return to_item({name: value for name, value in values.items() if value is not None})


def outcome(tables: Any, write: RecordWrite) -> object:
    try:
        return tables.write(write)
    except ConditionFailed as refused:
        return type(refused), refused.record
    except AwsError as error:
        return type(error)


def test_session_writers_find_the_tables_that_they_know():
    virtual = VirtualTime(charge_cpu=False)
    dynamodb, trusted = DynamoDb(TableNames()), FakeTables(virtual)
    tables = Tables(on_the_wire(dynamodb, virtual), TableNames(), virtual, pause=lambda _: None)
    for store in (tables, trusted):
        assert store.open(session(), identity(), NOW)
        assert not store.open(session(), identity(), NOW)
        store.touch("s1", TOM, NOW + 1)
        store.want(identity(), NOW + MINUTE, NOW + 2)
        assert store.open(session("s2"), identity(), NOW + 3)
        assert store.release("s1", TOM, NOW + 4)
        assert not store.release("s1", TOM, NOW + 5)
        assert set(store.look([TOM])[TOM].sessions) == {Session("s2", TOM, identity(), "", "", NOW - MINUTE, NOW + 3)}
    for kind, table in ((SESSIONS, dynamodb.sessions), (RECORDS, dynamodb.records)):
        assert [from_item(r.item) for r in table.page(None)[0]] == [from_item(i) for i in trusted.rows[kind].values()]


# The world and those who look after it


@pytest.fixture
def world():
    """A fleet of 60 rows and 12 tasks, at rest; no CPU time is charged, so every run is the same."""
    found = World(charge_cpu=False)
    with found.running():
        found.populate(60, 12)
        yield found


def test_a_fleet_at_rest_gives_the_controller_nothing_to_do(world):
    world.controller(Until(world.virtual, world.virtual.now + 11 * MINUTE)).run()
    assert not world.wire.events
    assert world.dynamodb.meter.calls["UpdateItem"] == 0
    usage = world.usage()
    assert usage.throttled == {}
    assert usage.looks == pytest.approx(11 * 6, abs=5)


def test_the_first_round_reads_everything_once(world):
    world.controller(AfterOneTurn()).run()
    usage = world.usage()
    assert usage.ecs_calls["ListTasks"] == 2
    assert usage.ecs_calls["DescribeTasks"] == 1
    assert usage.looks == 1


@pytest.mark.parametrize("contender", [Naive, Culler, None])
def test_whoever_looks_after_it_stops_who_is_gone_and_nobody_else(world, contender):
    gone = world.active[3]
    world.release(gone, world.virtual.now - 19 * MINUTE)
    stop = Until(world.virtual, world.virtual.now + 25 * MINUTE)
    (world.controller(stop) if contender is None else _Running(contender(world), stop)).run()
    stopped = {e.subject for e in world.wire.events if e.operation == "StopTask"}
    assert stopped == {world.arn_of(gone)}


class _Running:
    def __init__(self, contender: Naive | Culler, stop: Until) -> None:
        self._contender = contender
        self._stop = stop

    def run(self) -> None:
        self._contender.run(self._stop)


def test_who_opens_a_session_gets_one_task_by_either(world):
    for contender in (lambda stop: world.controller(stop), lambda stop: _Running(Naive(world), stop)):
        owner = nth_identity(1_000 + world.random.randrange(1_000))
        world.restart()
        world.open(owner)
        contender(Until(world.virtual, world.virtual.now + 2 * MINUTE)).run()
        assert [(e.operation, e.subject) for e in world.wire.events] == [("RunTask", owner.container_id)]
        row = world.dynamodb.records.row(owner.container_id)
        assert row is not None
        assert from_item(row.item)["containerStatus"] == "running"


def test_a_small_storm_makes_one_task_for_each_and_is_the_same_every_time():
    def controller(world: World, stop: Any) -> None:
        world.controller(stop).run()

    first, second = (storm.play(40, 50, 7, controller, charge_cpu=False) for _ in range(2))
    assert (first.attempts, first.throttled, first.duplicates, first.unserved) == (50, 0, 0, 0)
    assert first.waits == second.waits
    assert first.makespan >= FARGATE_RUN_TASK.floor(50)


def test_identities_are_as_many_as_are_wanted():
    found = {nth_identity(n) for n in range(5_000)}
    assert len(found) == 5_000
    assert all(isinstance(each, ContainerIdentity) for each in found)


# Figures


def test_figures_are_shown_with_their_spread():
    assert spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert spread([2.0, 2.0], 0) == "2"
    assert percentile([4, 1, 3, 2], 0.5) == 3
    assert percentile([4, 1, 3, 2], 0.99) == 4
    assert ratio(10, 4) == "2.5x"
    assert ratio(1, 0) == "-"
