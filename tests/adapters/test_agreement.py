"""The in-memory tables and ours over DynamoDB do the same, whatever is asked of them in whichever order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controller.aws.rows import RECORDS, SESSIONS
from controller.core import ledger
from controller.core.identity import ContainerIdentity
from controller.core.ledger import Absent, Equals, NoLaterThan, OneOf, RecordWrite
from controller.core.model import ContainerRecord, DrainReason, Failure, Launch, Session
from controller.core.reads import Look
from controller.errors import EditctlError
from tests.adapters.stores import DynamoStore, FakeStore, Store
from tests.builders import NOW, task
from tests.fakes.tables import FakeTables

SHOP = ContainerIdentity("acme", "shop-api", "bob")
API = ContainerIdentity("acme-shop", "api", "bob")
TOM = ContainerIdentity("acme", "blog", "tom")
IDS = (SHOP.container_id, TOM.container_id)

Step = Callable[[Store], Any]

owners = st.sampled_from([SHOP, API, TOM])
ids = st.sampled_from(IDS)
session_ids = st.sampled_from(["s1", "s2", "s3"])
times = st.integers(min_value=NOW, max_value=NOW + 3)
odd_values = st.sampled_from(
    [
        {"N": "0"},
        {"N": "1"},
        {"N": "-2"},
        {"N": "1.5"},
        {"S": ""},
        {"S": "running"},
        {"S": "x"},
        {"NULL": True},
        {"M": {}},
    ]
)
hold_values = st.sampled_from(
    [{"M": {"until": {"N": str(NOW)}}}, {"M": {"until": {"N": str(NOW + 5)}}}, {"M": {"until": {"S": "x"}}}, {"S": "x"}]
)
NAMES = ["generation", "containerStatus", "taskArn", "sessionCount", "wantedUntil", "emptySince", "clientId"]


def put_session(session_id: str, container_id: str, at: int) -> Step:
    row = {"sessionId": {"S": session_id}, "containerId": {"S": container_id}, "lastActivity": {"N": str(at)}}
    return lambda store: store.put(SESSIONS, row)


def put_record(container_id: str, attributes: dict[str, Any], hold: Any) -> Step:
    row = {"containerId": {"S": container_id}, **attributes, **({"hold": hold} if hold else {})}
    return lambda store: store.put(RECORDS, row)


def of_record(container_id: str, build: Callable[[ContainerRecord], RecordWrite]) -> Step:
    """A write of the ledger, made from the record as it is."""
    return lambda store: store.tables.write(
        build(store.tables.get_record(container_id) or ContainerRecord(container_id))
    )


LAUNCH = Launch(NOW, "{}")
LEDGER: list[Callable[[ContainerRecord], RecordWrite]] = [
    lambda r: ledger.claim(r, TOM if r.container_id == TOM.container_id else SHOP, 1, LAUNCH, "2026-03-02T10:00:00Z"),
    lambda r: ledger.record_arn(r.container_id, 1, "arn:1"),
    lambda r: ledger.correct(r, task()),
    lambda r: ledger.set_empty(r, NOW),
    lambda r: ledger.clear_empty(r),
    lambda r: ledger.repair_count(r, 2, NOW),
    lambda r: ledger.begin_drain(r, DrainReason.IDLE, NOW, NOW + 5),
    lambda r: ledger.begin_drain(r, DrainReason.DECLARED, NOW, NOW + 5),
    lambda r: ledger.cancel_drain(r),
    lambda r: ledger.write_stopping(r, NOW),
    lambda r: ledger.confirm_stop(r, NOW),
    lambda r: ledger.terminated(r),
    lambda r: ledger.failed(r, Failure(1, "RESOURCE:CPU", NOW, NOW + 5)),
    lambda r: ledger.set_hold(r, "ops", "why", NOW + 2),
    lambda r: ledger.lift_hold(r),
]

names = st.sampled_from(NAMES)
paths = st.one_of(names.map(lambda n: (n,)), st.sampled_from([("hold", "until"), ("drain", "id"), ("taskArn", "id")]))
values = st.sampled_from([0, 1, NOW, "", "running", "x"])
conditions = st.one_of(
    st.builds(Equals, paths, values),
    st.builds(Absent, paths),
    st.builds(OneOf, paths, st.lists(values, min_size=1, max_size=2, unique=True).map(tuple), st.booleans()),
    st.builds(NoLaterThan, paths, st.sampled_from([0, 1, NOW])),
)
writes = st.builds(
    lambda container_id, expect, sets, remove: RecordWrite(
        container_id, tuple(expect), {(n,): v for n, v in sets.items()}, tuple((n,) for n in remove if n not in sets)
    ),
    ids,
    st.lists(conditions, max_size=3),
    st.dictionaries(names, values, min_size=1, max_size=2),
    st.lists(names, max_size=2, unique=True),
)

steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda s, who, at: lambda store: store.tables.open(Session(s, who.container_id, who), who, at),
        session_ids,
        owners,
        times,
    ),
    st.builds(lambda s, i, at: lambda store: store.tables.touch(s, i, at), session_ids, ids, times),
    st.builds(lambda s, i, at: lambda store: store.tables.release(s, i, at), session_ids, ids, times),
    st.builds(lambda who, until, at: lambda store: store.tables.want(who, until, at), owners, times, times),
    st.builds(put_session, session_ids, ids, times),
    st.builds(put_record, ids, st.dictionaries(names, odd_values, max_size=2), st.one_of(st.none(), hold_values)),
    st.builds(lambda s: lambda store: store.delete(SESSIONS, s), session_ids),
    st.builds(of_record, ids, st.sampled_from(LEDGER)),
    writes.map(lambda write: lambda store: store.tables.write(write)),
    ids.map(lambda i: lambda store: as_sets(store.tables.look([i])[i])),
    st.just(lambda store: sorted(store.tables.read_records().records, key=lambda r: r.container_id)),
)


def as_sets(look: Look) -> Any:
    """Return a look without the order of its sessions, which means nothing."""
    return look.record, frozenset(look.sessions), look.readable


def outcome(store: Store, step: Step) -> Any:
    """Return what a step gave, or which error."""
    try:
        return step(store)
    except EditctlError as error:
        return type(error).__name__


def everything(store: Store) -> dict[str, Any]:
    rows = {f"{SESSIONS}/{s}": store.get(SESSIONS, s) for s in ("s1", "s2", "s3")}
    return rows | {f"{RECORDS}/{i}": store.get(RECORDS, i) for i in IDS}


def wipe(store: Store) -> None:
    for session_id in ("s1", "s2", "s3"):
        store.delete(SESSIONS, session_id)
    for container_id in IDS:
        store.delete(RECORDS, container_id)


@pytest.mark.timeout(900)  # as many stories as the profile wants
# Without the explaining phase: it traces every line of moto.
@settings(
    max_examples=settings().max_examples // 4,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=1, max_size=15))
def test_they_give_the_same_answers_and_leave_the_same_rows(dynamo: DynamoStore, story: list[Step]) -> None:
    wipe(dynamo)
    fake = FakeStore(dynamo.clock)
    assert isinstance(fake.tables, FakeTables)

    for step in story:
        assert outcome(fake, step) == outcome(dynamo, step)
        assert everything(fake) == everything(dynamo)
