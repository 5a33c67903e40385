"""Rows one by one: what is read, what is put aside, and that nothing whatsoever breaks the reading of the others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.aws.rows import (
    MAX_TIME,
    from_iso,
    from_item,
    from_value,
    parse_all,
    parse_record,
    parse_session,
    shown,
    to_iso,
    to_item,
    to_value,
)
from controller.core.model import ContainerRecord, Session
from controller.errors import RowError
from tests.builders import NOW, TOM

BIG = "x" * 400_000


def good_session(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "sessionId": {"S": "s1"},
        "containerId": {"S": TOM},
        "clientId": {"S": "acme"},
        "projectId": {"S": "blog"},
        "userId": {"S": "tom"},
        "createdAt": {"S": "2026-03-02T09:00:00.000Z"},
        "lastActivity": {"N": str(NOW)},
        **changes,
    }
    return {name: value for name, value in item.items() if value is not None}


def good_record(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "containerId": {"S": TOM},
        "sessionCount": {"N": "1"},
        "lastActivity": {"N": str(NOW)},
        "containerStatus": {"S": "running"},
        "generation": {"N": "3"},
        **changes,
    }
    return {name: value for name, value in item.items() if value is not None}


# Sessions

BAD_SESSIONS: list[tuple[str, dict[str, Any], str, str | None]] = [
    ("a number as text", {"lastActivity": {"S": "1772445600000"}}, "lastActivity is of type S, not a number", TOM),
    ("NaN as text", {"lastActivity": {"S": "NaN"}}, "lastActivity is of type S, not a number: 'NaN'", TOM),
    ("NaN as number", {"lastActivity": {"N": "NaN"}}, "lastActivity is out of range: 'NaN'", TOM),
    ("infinity", {"lastActivity": {"N": "Infinity"}}, "lastActivity is out of range", TOM),
    ("no digits", {"lastActivity": {"N": "soon"}}, "lastActivity is not a number: 'soon'", TOM),
    ("huge", {"lastActivity": {"N": "1E+125"}}, "lastActivity is out of range: '1E+125'", TOM),
    ("before 1970", {"lastActivity": {"N": "-1"}}, "lastActivity is out of range: '-1'", TOM),
    ("after 9999", {"lastActivity": {"N": str(MAX_TIME)}}, "lastActivity is out of range", TOM),
    ("a truth", {"lastActivity": {"BOOL": True}}, "lastActivity is of type BOOL, not a number", TOM),
    ("a list", {"lastActivity": {"L": [{"N": "1"}]}}, "lastActivity is of type L, not a number", TOM),
    ("a set", {"lastActivity": {"NS": ["1", "2"]}}, "lastActivity is of type NS, not a number", TOM),
    ("no container", {"containerId": None}, "containerId is missing", None),
    ("empty container", {"containerId": {"S": ""}}, "containerId is missing", None),
    ("NULL container", {"containerId": {"NULL": True}}, "containerId is missing", None),
    ("container of a number", {"containerId": {"N": "7"}}, "containerId is of type N, not a text", None),
    ("400 kB container", {"containerId": {"S": BIG}}, "containerId is longer than a key can be", None),
    ("400 kB elsewhere", {"lastActivity": {"S": BIG}}, "(400,000 in all)", TOM),
    ("bytes", {"inputQueueUrl": {"B": b"\x00\x1b"}}, "inputQueueUrl is of type B, not a text", TOM),
    ("no user", {"userId": None}, "userId missing beside clientId, projectId", TOM),
    ("only a user", {"clientId": None, "projectId": {"S": ""}}, "clientId and projectId missing beside userId", TOM),
    (
        "another id",
        {"userId": {"S": "eva"}},
        "make the container id 'acme-blog-eva', the row says 'acme-blog-tom'",
        TOM,
    ),
    ("control character", {"userId": {"S": "to\x1bm"}}, r"'acme', 'blog', 'to\x1bm'", TOM),
    ("not NFC", {"userId": {"S": "e\u0301va"}}, "cannot be a container's", TOM),
    ("no time at all", {"lastActivity": None, "createdAt": {"S": "yesterday"}}, "createdAt is not an ISO 8601", TOM),
]


@pytest.mark.parametrize(
    ("changes", "reason", "container"), [c[1:] for c in BAD_SESSIONS], ids=[c[0] for c in BAD_SESSIONS]
)
def test_a_session_that_cannot_be_read(changes: dict[str, Any], reason: str, container: str | None) -> None:
    rows, unread = parse_all([good_session(**changes), good_session()], parse_session, "sessionId")

    assert len(rows) == 1
    (bad,) = unread
    assert (bad.key, bad.container_id) == ("s1", container)
    assert reason in bad.reason
    assert len(bad.reason) < 400
    assert bad.reason.isprintable()


GOOD_SESSIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("fraction of a millisecond", {"lastActivity": {"N": "1772445600000.75"}}, {"last_activity": NOW}),
    ("exponent", {"lastActivity": {"N": "1.7724456E+12"}}, {"last_activity": NOW}),
    ("no lastActivity", {"lastActivity": None}, {"last_activity": None, "created_at": NOW - 3_600_000}),
    ("NULL lastActivity", {"lastActivity": {"NULL": True}}, {"last_activity": None}),
    ("no times", {"lastActivity": None, "createdAt": None}, {"last_activity": None, "created_at": None}),
    ("bad createdAt", {"createdAt": {"S": "yesterday"}}, {"created_at": None}),
    ("createdAt of another type", {"createdAt": {"BOOL": False}}, {"created_at": None}),
    ("createdAt as number", {"createdAt": {"N": "1772442000000"}}, {"created_at": 1772442000000}),
    ("createdAt out of range", {"createdAt": {"S": "1969-12-31T23:59:59Z"}}, {"created_at": None}),
    ("offset", {"createdAt": {"S": "2026-03-02T10:00:00+01:00"}}, {"created_at": NOW - 3_600_000}),
    ("no offset is UTC", {"createdAt": {"S": "2026-03-02T09:00:00"}}, {"created_at": NOW - 3_600_000}),
    ("microseconds", {"createdAt": {"S": "2026-03-02T09:00:00.123456Z"}}, {"created_at": NOW - 3_600_000 + 123}),
    ("no queues", {}, {"input_queue_url": "", "output_queue_url": ""}),
    ("unknown attributes", {"mood": {"M": {"is": {"S": "good"}}}}, {"session_id": "s1"}),
    ("no triple", {"clientId": None, "projectId": None, "userId": None}, {"identity": None}),
    ("empty triple", {"clientId": {"S": ""}, "projectId": {"NULL": True}, "userId": None}, {"identity": None}),
]


@pytest.mark.parametrize(("changes", "expected"), [c[1:] for c in GOOD_SESSIONS], ids=[c[0] for c in GOOD_SESSIONS])
def test_a_session_that_can_be_read(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    session = parse_session(good_session(**changes))

    assert {name: getattr(session, name) for name in expected} == expected


# Records

BAD_RECORDS: list[tuple[str, dict[str, Any], str]] = [
    ("unknown status", {"containerStatus": {"S": "melting"}}, "containerStatus is none of starting, running"),
    ("status of a number", {"containerStatus": {"N": "1"}}, "containerStatus is of type N, not a text"),
    ("count as text", {"sessionCount": {"S": "1"}}, "sessionCount is of type S"),
    ("fractional count", {"sessionCount": {"N": "1.5"}}, "sessionCount is not a whole number: '1.5'"),
    ("huge count", {"sessionCount": {"N": "9.9E+125"}}, "sessionCount is out of range"),
    ("fractional fence", {"lastActivity": {"N": "1772445600000.5"}}, "lastActivity is not a whole number"),
    ("negative generation", {"generation": {"N": "-1"}}, "generation is out of range"),
    ("drain is no map", {"drain": {"S": "yes"}}, "drain is of type S, not a map"),
    ("drain without id", {"drain": {"M": {"reason": {"S": "Idle"}, "requestedAt": {"N": "1"}}}}, "drain.id is missing"),
    (
        "unknown drain reason",
        {"drain": {"M": {"id": {"N": "1"}, "reason": {"S": "Mood"}, "requestedAt": {"N": "1"}}}},
        "drain.reason is none of Idle",
    ),
    ("hold without end", {"hold": {"M": {"by": {"S": "ops"}}}}, "hold.until is missing"),
    ("hold with a date", {"hold": {"M": {"until": {"S": "2026-03-02"}}}}, "hold.until is of type S"),
    ("launch of an unknown time", {"launch": {"M": {"request": {"S": "{}"}}}}, "launch.requestedAt is missing"),
    ("failure as text", {"failure": {"M": {"count": {"S": "1"}}}}, "failure.count is of type S"),
    ("declared hold", {"declared": {"M": {"uid": {"S": "u"}, "hold": {"M": {}}}}}, "declared.hold.until is missing"),
    ("half a triple", {"clientId": {"S": "acme"}}, "projectId and userId missing beside clientId"),
]


@pytest.mark.parametrize(("changes", "reason"), [c[1:] for c in BAD_RECORDS], ids=[c[0] for c in BAD_RECORDS])
def test_a_record_that_cannot_be_read_protects_its_container(changes: dict[str, Any], reason: str) -> None:
    rows, unread = parse_all([good_record(**changes)], parse_record, "containerId")

    assert rows == []
    assert (unread[0].key, unread[0].container_id) == (TOM, TOM)
    assert reason in unread[0].reason


def test_a_record_may_have_nothing_but_its_key() -> None:
    assert parse_record({"containerId": {"S": TOM}}) == ContainerRecord(TOM)


def test_a_record_s_createdat_is_not_worth_a_quarantine() -> None:
    assert parse_record(good_record(createdAt={"S": "once"})).created_at is None


# Anything at all

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "NaN", "acme", "blog", "tom", TOM, "running", "1", "2026-03-02T10:00:00Z", BIG, "\x1b[31m", "-"]
    ),
)
NUMBERS = st.one_of(
    st.integers(min_value=-(10**38), max_value=10**38).map(str),
    st.sampled_from(
        ["0", "-0", "1.5", "1E+125", "-9.9E+125", "1E-130", "NaN", "Infinity", "-Infinity", "sNaN", "", "x"]
    ),
    st.integers(min_value=0, max_value=2 * NOW).map(str),
)
VALUES = st.recursive(
    st.one_of(
        TEXTS.map(lambda v: {"S": v}),
        NUMBERS.map(lambda v: {"N": v}),
        st.binary(max_size=20).map(lambda v: {"B": v}),
        st.booleans().map(lambda v: {"BOOL": v}),
        st.just({"NULL": True}),
        st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(lambda v: {"SS": v}),
        st.lists(NUMBERS, min_size=1, max_size=3).map(lambda v: {"NS": v}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: {"L": v}),
        st.dictionaries(
            st.sampled_from(
                ["id", "reason", "requestedAt", "until", "by", "count", "at", "retryAt", "uid", "hold", "x"]
            ),
            inner,
            max_size=5,
        ).map(lambda v: {"M": v}),
    ),
    max_leaves=3,
)
SESSION_NAMES = list(good_session(inputQueueUrl={"S": "q"}, outputQueueUrl={"S": "q"}))
RECORD_NAMES = [
    *good_record(),
    *("clientId", "projectId", "userId", "taskArn", "containerIp", "createdAt", "wantedUntil", "emptySince"),
    *("launch", "drain", "save", "failure", "hold", "declared"),
]


def poisoned(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), st.one_of(VALUES, st.none()), min_size=1, max_size=6)


@settings(max_examples=1000)
@given(poisoned(SESSION_NAMES))
@example({"lastActivity": {"N": "sNaN"}})
@example({"createdAt": {"S": "0001-01-01T00:00:00+23:59"}})
def test_no_session_row_whatsoever_breaks_the_reading(changes: dict[str, Any]) -> None:
    item = good_session(**changes)

    rows, unread = parse_all([good_session(sessionId={"S": "fine"}), item], parse_session, "sessionId")

    assert len(rows) + len(unread) == 2
    assert isinstance(rows[0], Session)
    for session in rows[1:]:
        assert item["containerId"] == {"S": session.container_id}
        assert session.identity is None or session.identity.container_id == session.container_id
        assert session.last_activity is None or 0 <= session.last_activity < MAX_TIME
    for bad in unread:
        assert bad.reason
        assert bad.reason.isprintable()
        assert len(bad.reason) < 1000
        # Whatever names a container protects it.
        named = item.get("containerId", {}).get("S")
        assert bad.container_id == (named if named and len(named) <= 2048 else None)


@settings(max_examples=1000)
@given(poisoned(RECORD_NAMES))
def test_no_record_row_whatsoever_breaks_the_reading(changes: dict[str, Any]) -> None:
    item = good_record(**{**changes, "containerId": {"S": TOM}})

    rows, unread = parse_all([item, good_record(containerId={"S": "x-y-z"})], parse_record, "containerId")

    assert len(rows) + len(unread) == 2
    assert rows[-1].container_id == "x-y-z"
    for bad in unread:
        assert bad.container_id == TOM
        assert bad.reason.isprintable()
        assert len(bad.reason) < 1000


# Values


@given(
    st.recursive(
        st.one_of(st.text(), st.integers(min_value=-(10**37), max_value=10**37), st.booleans(), st.none()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(min_size=1), inner, max_size=3)),
        max_leaves=8,
    )
)
def test_values_come_back_as_they_were(value: Any) -> None:
    assert from_value(to_value(value)) == value
    assert from_item(to_item({"a": value})) == {"a": value}


@given(st.integers(min_value=0, max_value=MAX_TIME - 1))
def test_times_come_back_as_they_were(millis: int) -> None:
    assert from_iso(to_iso(millis)) == millis
    assert to_iso(millis).endswith("Z")


def test_a_time_is_written_as_the_original_system_writes_it() -> None:
    assert to_iso(NOW) == "2026-03-02T10:00:00.000Z"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "10000-01-01", "0001-01-01T00:00:00+23:59"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        from_iso(text)


def test_a_value_of_unknown_origin_is_shown_short_and_escaped() -> None:
    assert shown({"S": "a\x1b[31m\n"}) == r"'a\x1b[31m\n'"
    assert shown({"S": BIG}) == f"'{'x' * 60}' (400,000 in all)"
    assert len(shown({"S": "\x00" * 1000})) < 160
    assert shown({"M": {"a": {"S": BIG}}}).isprintable()


def test_values_that_only_others_write() -> None:
    row: dict[str, Any] = {"a": {"NS": ["1", "2.5"]}, "b": {"B": b"x"}, "c": {"SS": ["y"]}, "d": {"N": "1.5"}}

    assert from_item(row) == {"a": {1, Decimal("2.5")}, "b": b"x", "c": ["y"], "d": Decimal("1.5")}
    assert to_value(Decimal("1.5")) == {"N": "1.5"}


def test_a_value_that_no_row_has() -> None:
    with pytest.raises(TypeError):
        to_value(object())
    with pytest.raises(RowError):
        parse_session({})
