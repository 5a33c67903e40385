"""Our tables on DynamoDB itself: pages, trouble in the middle, transactions that meet, and how the tables are made."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from controller.aws.rows import RECORDS, SESSIONS
from controller.aws.schema import TableNames, TableSchema, check_tables, create_tables
from controller.aws.tables import BATCH_TRIES, TableReader, Tables
from controller.core import ledger
from controller.core.identity import ContainerIdentity
from controller.core.model import ContainerRecord, Launch, Quality, Session
from controller.errors import (
    AwsError,
    ConditionFailed,
    ConfigError,
    SessionError,
    TableNotFound,
    Throttled,
    TransactionConflict,
    Unavailable,
)
from tests.adapters.stores import NAMES, DynamoStore
from tests.builders import NOW, TOM, identity
from tests.fakes.clock import FakeClock
from tests.fakes.tables import NOTES

OWNER = identity(TOM)

Answer = Mapping[str, Any]
Twist = Callable[[Callable[..., Answer], dict[str, Any]], Answer]


class Twisted:
    """A client some of whose calls go otherwise: `twist(method, [t1, None, t2])` for the first three calls of it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._twists: dict[str, Iterator[Twist | None]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def twist(self, method: str, twists: list[Twist | None]) -> None:
        self._twists[method] = iter(twists)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        def called(**parameters: Any) -> Answer:
            self.asked.append((name, parameters))
            twist = next(self._twists.get(name, iter(())), None)
            answer: Answer = twist(call, parameters) if twist else call(**parameters)
            return answer

        return called


def error(code: str, **members: Any) -> Twist:
    def raises(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        raise ClientError({"Error": {"Code": code, "Message": "told so"}, **members}, "X")

    return raises


def conflict() -> Twist:
    return error(
        "TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}, {"Code": "None"}]
    )


def lost(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    """The call takes effect, its answer does not come."""
    call(**parameters)
    raise ReadTimeoutError(endpoint_url="https://dynamodb")


def small(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
    """A page ends after two rows."""
    return call(**{**parameters, "Limit": 2})


@pytest.fixture
def twisted(dynamo: DynamoStore) -> Twisted:
    return Twisted(dynamo.client)


@pytest.fixture
def tables(dynamo: DynamoStore, twisted: Twisted) -> Tables:
    client: Any = twisted
    return Tables(client, NAMES, dynamo.clock, region="eu-west-1", pause=dynamo.pauses.append, chance=lambda: 0.5)


def session(session_id: str = "s1", owner: ContainerIdentity = OWNER) -> Session:
    return Session(session_id, owner.container_id, owner)


def fill(tables: Tables, count: int) -> None:
    for i in range(count):
        tables.open(session(f"s{i}"), OWNER, NOW)


# Pages


def test_all_pages_are_read(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 7)
    twisted.twist("scan", [small] * 4)

    read = tables.read_sessions()

    assert {s.session_id for s in read.sessions} == {f"s{i}" for i in range(7)}
    assert read.sight.complete
    scans = [p for name, p in twisted.asked if name == "scan"]
    assert len(scans) == 4
    assert all("ConsistentRead" not in p for p in scans)


@pytest.mark.parametrize(
    ("bad", "quality", "rows", "detail"),
    [
        (1, Quality.UNKNOWN, 0, "page 1 failed: ThrottlingException"),
        (2, Quality.INCOMPLETE, 2, "page 2 failed: ThrottlingException"),
        (4, Quality.INCOMPLETE, 6, "page 4 failed: ThrottlingException"),
    ],
)
def test_a_page_that_fails_is_quality_and_no_shorter_list(
    tables: Tables, twisted: Twisted, bad: int, quality: Quality, rows: int, detail: str
) -> None:
    fill(tables, 7)
    twisted.twist("scan", [*([small] * (bad - 1)), error("ThrottlingException")])

    read = tables.read_sessions()

    assert (len(read.sessions), read.sight.quality, read.sight.detail) == (rows, quality, detail)


def test_a_scan_that_goes_round_in_circles(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 4)

    def again(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        parameters.pop("ExclusiveStartKey", None)
        return small(call, parameters)

    twisted.twist("scan", [again] * 9)
    read = tables.read_sessions()
    assert (read.sight.quality, read.sight.detail) == (Quality.INCOMPLETE, "page 3 failed: RepeatedKey")

    twisted.twist("scan", [again] * 9)
    with pytest.raises(Unavailable, match="goes round in circles"):
        tables.look([TOM])


def test_an_answer_of_somebody_else_is_no_empty_table(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 1)
    twisted.twist("scan", [lambda call, parameters: {"ResponseMetadata": {"HTTPStatusCode": 200}}])

    assert tables.read_sessions().sight.quality is Quality.UNKNOWN


def test_a_table_that_is_not_there_says_so_in_its_sight(dynamo: DynamoStore) -> None:
    names = TableNames(sessions="elsewhere")
    tables = TableReader(dynamo.client, names, dynamo.clock, region="eu-west-1")

    read = tables.read_sessions()

    assert read.sight.quality is Quality.UNKNOWN
    assert read.sight.detail == "page 1 failed: no DynamoDB table named 'elsewhere' in eu-west-1"


def test_rows_of_400_kb_break_nothing(dynamo: DynamoStore, tables: Tables) -> None:
    big = "x" * 380_000
    for i in range(5):
        row = {"sessionId": {"S": f"big{i}"}, "containerId": {"S": TOM}, "lastActivity": {"S": big}}
        dynamo.put(SESSIONS, row)
    fill(tables, 3)

    read, look = tables.read_sessions(), tables.look([TOM])[TOM]

    assert (len(read.sessions), len(read.quarantined), read.sight.complete) == (3, 5, True)
    assert max(len(q.reason) for q in read.quarantined) < 200
    assert (len(look.sessions), look.readable) == (3, False)


def test_a_row_whose_first_sight_cannot_be_asked_counts_as_seen_now(
    dynamo: DynamoStore, tables: Tables, twisted: Twisted
) -> None:
    dynamo.put(SESSIONS, {"sessionId": {"S": "bad"}, "containerId": {"S": TOM}, "lastActivity": {"S": "x"}})
    tables.note_first_seen("sessions#bad", NOW - 5)
    twisted.twist("scan", [None, error("InternalServerError")])

    (bad,) = tables.read_sessions().quarantined

    assert bad.first_seen == NOW


def test_notes_are_asked_only_when_a_row_is_bad(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 1)
    twisted.asked.clear()

    tables.read_sessions()

    assert [p["TableName"] for _, p in twisted.asked] == [NAMES.sessions]


def test_a_key_that_is_as_long_as_keys_get(tables: Tables) -> None:
    key = f"sessions#{'k' * 2048}"

    tables.note_first_seen(key, NOW)

    assert tables.read_notes().first_seen == {key: NOW}
    tables.forget_first_seen(key)
    assert tables.read_notes().first_seen == {}


def test_notes_that_cannot_be_read_are_left_out(dynamo: DynamoStore, tables: Tables) -> None:
    dynamo.put(NOTES, {"name": {"S": "quarantine#x"}, "row": {"N": "1"}})
    dynamo.put(NOTES, {"name": {"S": "quarantine#y"}, "row": {"S": "y"}})
    dynamo.put(NOTES, {"name": {"S": "something else"}})

    assert tables.read_notes().first_seen == {}


# Looks


def test_a_look_is_strong_and_reads_records_first(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 1)
    twisted.asked.clear()

    tables.look([TOM])

    (first, batch), (second, scan) = twisted.asked
    assert (first, second) == ("batch_get_item", "scan")
    assert batch["RequestItems"][NAMES.containers]["ConsistentRead"] is True
    assert (scan["ConsistentRead"], scan["TableName"]) == (True, NAMES.sessions)
    assert "IndexName" not in scan


def test_keys_left_unprocessed_are_asked_for_again(dynamo: DynamoStore, tables: Tables, twisted: Twisted) -> None:
    for user in ("a", "b", "c"):
        tables.open(session(user, identity(f"x-y-{user}")), identity(f"x-y-{user}"), NOW)

    def first_only(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        asked = parameters["RequestItems"][NAMES.containers]
        answer = call(RequestItems={NAMES.containers: {**asked, "Keys": asked["Keys"][:1]}})
        return {**answer, "UnprocessedKeys": {NAMES.containers: {**asked, "Keys": asked["Keys"][1:]}}}

    twisted.twist("batch_get_item", [first_only, first_only])
    look = tables.look(["x-y-a", "x-y-b", "x-y-c"])

    assert all(seen.record for seen in look.values())
    assert dynamo.pauses == [0.05, 0.1]


def test_keys_that_stay_unprocessed_are_an_error(dynamo: DynamoStore, tables: Tables, twisted: Twisted) -> None:
    def nothing(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        return {"Responses": {}, "UnprocessedKeys": parameters["RequestItems"]}

    twisted.twist("batch_get_item", [nothing] * 99)

    with pytest.raises(Unavailable, match="left rows unread 6 times"):
        tables.look([TOM])
    assert len(dynamo.pauses) == BATCH_TRIES


@pytest.mark.parametrize("method", ["batch_get_item", "scan"])
def test_half_a_look_is_none(tables: Tables, twisted: Twisted, method: str) -> None:
    fill(tables, 1)
    twisted.twist(method, [error("ProvisionedThroughputExceededException")])

    with pytest.raises(Throttled):
        tables.look([TOM])


# Transactions


def test_a_transaction_in_the_way_is_tried_again_with_growing_pauses(
    dynamo: DynamoStore, tables: Tables, twisted: Twisted
) -> None:
    twisted.twist("transact_write_items", [conflict()] * 4)

    assert tables.open(session(), OWNER, NOW) is True

    assert dynamo.pauses == pytest.approx([0.075, 0.15, 0.3, 0.6])


@pytest.mark.parametrize("operation", ["open", "touch", "release", "want", "write"])
def test_after_five_tries_it_is_an_error(tables: Tables, twisted: Twisted, operation: str) -> None:
    tables.open(session(), OWNER, NOW)
    twisted.asked.clear()
    in_the_way = error("TransactionConflictException")
    twisted.twist("transact_write_items", [conflict()] * 99)
    twisted.twist("update_item", [in_the_way] * 99)
    calls: dict[str, Callable[[], object]] = {
        "open": lambda: tables.open(session("s2"), OWNER, NOW),
        "touch": lambda: tables.touch("s1", TOM, NOW),
        "release": lambda: tables.release("s1", TOM, NOW),
        "want": lambda: tables.want(OWNER, NOW, NOW),
        "write": lambda: tables.write(ledger.lift_hold(ContainerRecord(TOM))),
    }

    with pytest.raises(TransactionConflict):
        calls[operation]()

    assert len(twisted.asked) == 5


def test_a_lost_reply_to_open_counts_once(dynamo: DynamoStore, tables: Tables, twisted: Twisted) -> None:
    twisted.twist("transact_write_items", [lost])
    with pytest.raises(Unavailable):
        tables.open(session(), OWNER, NOW)

    assert tables.open(session(), OWNER, NOW + 1) is False

    assert tables.look([TOM])[TOM].record == ContainerRecord(TOM, OWNER, session_count=1, last_activity=NOW)


def test_a_lost_reply_to_release_counts_once(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 2)
    twisted.twist("transact_write_items", [lost])
    with pytest.raises(Unavailable):
        tables.release("s0", TOM, NOW + 1)

    assert tables.release("s0", TOM, NOW + 2) is False

    record = tables.get_record(TOM)
    assert record is not None
    assert record.session_count == 1


def test_a_session_released_between_two_looks_is_opened(tables: Tables, twisted: Twisted) -> None:
    fill(tables, 1)

    def released_meanwhile(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        try:
            return call(**parameters)
        finally:
            tables.release("s0", TOM, NOW)

    twisted.twist("transact_write_items", [released_meanwhile])

    assert tables.open(session("s0"), OWNER, NOW) is True
    assert tables.look([TOM])[TOM].sessions != ()


def test_an_open_between_the_two_tries_of_a_release(dynamo: DynamoStore, tables: Tables, twisted: Twisted) -> None:
    dynamo.put(SESSIONS, {"sessionId": {"S": "s1"}, "containerId": {"S": TOM}, "lastActivity": {"N": "1"}})

    def opened_meanwhile(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        dynamo.tables.open(session("s2"), OWNER, NOW)
        return call(**parameters)

    twisted.twist("transact_write_items", [None, opened_meanwhile])

    assert tables.release("s1", TOM, NOW) is True
    record = tables.get_record(TOM)
    assert record is not None
    # Never counted, so one too few now: rows != count, which the recount repairs before anything is decided.
    assert record.session_count == 0
    assert [s.session_id for s in tables.look([TOM])[TOM].sessions] == ["s2"]


def test_a_wish_for_longer_between_the_two_tries_of_want(dynamo: DynamoStore, tables: Tables, twisted: Twisted) -> None:
    tables.want(OWNER, NOW + 10, NOW)

    def shortened_meanwhile(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        dynamo.delete(RECORDS, TOM)
        return call(**parameters)

    twisted.twist("update_item", [None, shortened_meanwhile])

    assert tables.want(OWNER, NOW + 5, NOW).wanted_until == NOW + 5


# Races


def test_of_many_claims_at_once_one_wins(dynamo: DynamoStore) -> None:
    fresh = ContainerRecord(TOM)

    def claim(number: int) -> bool:
        try:
            dynamo.tables.write(ledger.claim(fresh, OWNER, 1, Launch(NOW + number, "{}"), "2026-03-02T10:00:00Z"))
        except ConditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, took in enumerate(pool.map(claim, range(40))) if took]

    record = dynamo.tables.get_record(TOM)
    assert record is not None
    assert record.launch is not None
    assert [NOW + n for n in won] == [record.launch.requested_at]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_writers_do_at_once_rows_and_count_agree(dynamo: DynamoStore, seed: int) -> None:
    chance = random.Random(seed)
    steps = [(chance.choice(["open", "open", "release", "touch"]), f"s{chance.randrange(4)}") for _ in range(60)]

    def act(step: tuple[str, str]) -> None:
        what, session_id = step
        try:
            if what == "open":
                dynamo.tables.open(session(session_id), OWNER, NOW)
            elif what == "release":
                dynamo.tables.release(session_id, TOM, NOW)
            else:
                dynamo.tables.touch(session_id, TOM, NOW)
        except SessionError:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, steps))

    look = dynamo.tables.look([TOM])[TOM]
    assert look.record is not None
    assert look.record.session_count == len(look.sessions)


# How the tables are made


def test_tables_are_made_once(dynamo: DynamoStore) -> None:
    again = create_tables(dynamo.client, NAMES, wait=lambda seconds: None)
    others = TableNames("a-sessions", "a-containers", "a-controller")

    made = create_tables(dynamo.client, others, wait=lambda seconds: None)

    assert again == dict.fromkeys((NAMES.sessions, NAMES.containers, NAMES.controller), False)
    assert made == {"a-sessions": True, "a-containers": True, "a-controller": True}


def test_the_tables_are_as_the_original_system_has_them(dynamo: DynamoStore) -> None:
    table = dynamo.client.describe_table(TableName=NAMES.sessions)["Table"]

    assert table["KeySchema"] == [{"AttributeName": "sessionId", "KeyType": "HASH"}]
    (index,) = table["GlobalSecondaryIndexes"]
    assert (index["IndexName"], index["KeySchema"][0]["AttributeName"]) == ("container-index", "containerId")
    assert index["Projection"]["ProjectionType"] == "ALL"
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_preflight_gives_the_ids_of_the_tables(tables: Tables, twisted: Twisted) -> None:
    def made_anew(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        return {"Table": {**call(**parameters)["Table"], "TableId": "another"}}

    before = tables.preflight()
    twisted.twist("describe_table", [None, made_anew])
    after = tables.preflight()

    assert set(before) == {NAMES.sessions, NAMES.containers, NAMES.controller}
    assert all(before.values())
    assert [name for name in before if before[name] != after[name]] == [NAMES.containers]


def test_preflight_without_a_table(dynamo: DynamoStore, tables: Tables) -> None:
    dynamo.client.delete_table(TableName=NAMES.containers)

    with pytest.raises(TableNotFound) as missing:
        tables.preflight()

    assert missing.value.what == "no DynamoDB table named 'webordinary-containers' in eu-west-1"
    assert missing.value.todo.startswith("set EDITCTL_CONTAINERS_TABLE, or make the tables")


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (
            TableSchema(NAMES.sessions, "sessionId", {}, stream=False),
            "the table 'webordinary-edit-sessions' cannot be used: it has no index 'container-index'",
        ),
        (
            TableSchema(NAMES.sessions, "id", {"container-index": "containerId"}, stream=False),
            "the table 'webordinary-edit-sessions' cannot be used: its key is id, not sessionId alone",
        ),
        (
            TableSchema(NAMES.sessions, "sessionId", {"container-index": "container"}, stream=False),
            (
                "the table 'webordinary-edit-sessions' cannot be used: "
                "its index 'container-index' has the key container, not containerId"
            ),
        ),
    ],
    ids=["no index", "another key", "another index key"],
)
def test_a_table_of_another_shape(dynamo: DynamoStore, wrong: TableSchema, what: str) -> None:
    dynamo.client.delete_table(TableName=NAMES.sessions)
    dynamo.client.create_table(**wrong.request())

    for check in (check_tables, create_tables):
        with pytest.raises(ConfigError) as refused:
            check(dynamo.client, NAMES, "eu-west-1")
        assert refused.value.what == what
        assert refused.value.todo.startswith("set EDITCTL_SESSIONS_TABLE to the right table")


def test_a_key_that_is_a_number(dynamo: DynamoStore) -> None:
    request = TableSchema(NAMES.controller, "name", {}, stream=False).request()
    dynamo.client.delete_table(TableName=NAMES.controller)
    dynamo.client.create_table(**{**request, "AttributeDefinitions": [{"AttributeName": "name", "AttributeType": "N"}]})

    with pytest.raises(ConfigError, match="its key name is of type N, not S"):
        check_tables(dynamo.client, NAMES)


def as_status(status: str, index: str = "ACTIVE") -> Twist:
    def shows(call: Callable[..., Answer], parameters: dict[str, Any]) -> Answer:
        table = dict(call(**parameters)["Table"])
        indexes = [{**i, "IndexStatus": index} for i in table.get("GlobalSecondaryIndexes", ())]
        return {"Table": {**table, "TableStatus": status, "GlobalSecondaryIndexes": indexes}}

    return shows


def test_making_tables_waits_until_they_can_be_used(dynamo: DynamoStore, twisted: Twisted) -> None:
    waits: list[float] = []
    not_yet = error("ResourceNotFoundException")
    twisted.twist("describe_table", [None] * 3 + [not_yet, as_status("CREATING"), as_status("ACTIVE", "CREATING")])

    create_tables(twisted, NAMES, wait=waits.append)

    assert waits == [1.0, 1.0, 1.0]


def test_making_tables_does_not_wait_for_ever(dynamo: DynamoStore, twisted: Twisted) -> None:
    twisted.twist("describe_table", [as_status("CREATING")] * 999)

    with pytest.raises(Unavailable, match="is not ready after 120 s"):
        create_tables(twisted, NAMES, wait=lambda seconds: None)


def test_a_table_that_is_being_made_cannot_be_used_yet(dynamo: DynamoStore, twisted: Twisted) -> None:
    twisted.twist("describe_table", [as_status("CREATING")])

    with pytest.raises(ConfigError, match="it is creating"):
        check_tables(twisted, NAMES)


def test_two_who_make_the_same_table(dynamo: DynamoStore, twisted: Twisted) -> None:
    twisted.twist("describe_table", [error("ResourceNotFoundException")])

    assert not any(create_tables(twisted, NAMES, wait=lambda seconds: None).values())


def test_one_who_may_not_make_tables(dynamo: DynamoStore, twisted: Twisted) -> None:
    dynamo.client.delete_table(TableName=NAMES.controller)
    twisted.twist("create_table", [error("AccessDeniedException")])

    with pytest.raises(AwsError, match="CreateTable on table 'webordinary-controller' is not allowed"):
        create_tables(twisted, NAMES, wait=lambda seconds: None)


def test_what_only_looks_has_nothing_that_writes(dynamo: DynamoStore, clock: FakeClock) -> None:
    reader = TableReader(dynamo.client, NAMES, clock)

    for name in ("write", "open", "touch", "release", "want", "set_pause", "note_first_seen"):
        assert not hasattr(reader, name)
    assert reader.read_sessions().sight.complete
