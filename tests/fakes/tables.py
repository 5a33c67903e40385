"""The three tables in memory: the same promises as `controller/aws/tables.py`, kept without DynamoDB.

Rows are DynamoDB JSON and are read by `controller/aws/rows.py`; what is written here anew are the semantics:
conditions, transactions, and reads that are late or partial when a test says so.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from controller.aws.lease import lease_item, parse_lease
from controller.aws.refusals import check_new_session, check_open_session, check_owner, not_open
from controller.aws.rows import (
    RECORDS,
    SESSIONS,
    Item,
    Unread,
    Value,
    from_item,
    parse_all,
    parse_pause,
    parse_record,
    parse_session,
    session_item,
    to_iso,
    to_item,
    to_value,
    triple,
)
from controller.aws.schema import TableNames
from controller.core.identity import ContainerIdentity
from controller.core.ledger import Absent, Condition, Equals, NoLaterThan, OneOf, Path, RecordWrite
from controller.core.model import MINUTE, ContainerRecord, Millis, Quality, Quarantined, Session, Sight
from controller.core.reads import Lease, Look, Notes, RecordsRead, SessionsRead
from controller.errors import AwsError, ConditionFailed, InvalidRequest, RowError, Throttled, Unavailable

_T = TypeVar("_T")

NOTES = "notes"
NAMES = TableNames()
HISTORY_KEPT: Millis = 15 * MINUTE
"""How far back a late read can look."""


@dataclass(frozen=True, slots=True)
class Written:
    """One write that took effect: when, which operation, on which row."""

    at: Millis
    operation: str
    key: str


class FakeTables:
    """Implements every table port. Every method may be called from any thread.

    log: the writes that took effect, so that a test can say "nothing was written". calls: how often each method ran.
    session_lag, record_lag: milliseconds by which `read_sessions` and `read_records` are late; strong reads never are.
    page_size: rows a page, for `fail_page`.
    """

    def __init__(self, clock: Callable[[], Millis], names: TableNames = NAMES, *, page_size: int = 100) -> None:
        self.names = names
        self.rows: dict[str, dict[str, Item]] = {SESSIONS: {}, RECORDS: {}, NOTES: {}}
        self.log: list[Written] = []
        self.calls: Counter[str] = Counter()
        self.session_lag: Millis = 0
        self.record_lag: Millis = 0
        self.page_size = page_size
        self._clock = clock
        self._history: deque[tuple[Millis, str, str, Item | None]] = deque()
        self._errors: dict[str, deque[AwsError]] = {}
        self._lost: dict[str, deque[AwsError]] = {}
        self._bad_pages: dict[str, deque[tuple[int, AwsError]]] = {}
        self._lock = threading.RLock()

    # What a test does to it

    def fail(self, operation: str, error: AwsError | None = None, times: int = 1) -> None:
        """Let the next calls of a method fail before they have any effect; a stale read answers with unknown sight."""
        self._errors.setdefault(operation, deque()).extend([error or throttled(operation)] * times)

    def lose_reply(self, operation: str, error: AwsError | None = None, times: int = 1) -> None:
        """Let the next calls of a method take effect and fail all the same."""
        self._lost.setdefault(operation, deque()).extend([error or unavailable(operation)] * times)

    def fail_page(self, operation: str, page: int, error: AwsError | None = None) -> None:
        """Let the next `read_sessions` or `read_records` stop at this page, the first being 1."""
        self._bad_pages.setdefault(operation, deque()).append((page, error or throttled("Scan")))

    def put_row(self, table: str, item: Item) -> None:
        """Put a row as it is, DynamoDB JSON, however broken; not logged as a write of ours."""
        with self._lock:
            self._set(table, _key_of(table, item), dict(item))

    def delete_row(self, table: str, key: str) -> None:
        """Delete a row, as a person in the console would; not logged as a write of ours."""
        with self._lock:
            self._set(table, key, None)

    def row(self, table: str, key: str) -> dict[str, Any] | None:
        """Return a row as plain values."""
        item = self.rows[table].get(key)
        return None if item is None else from_item(item)

    # The original system's writers: a put, then a bare ADD; never together, never floored

    def put_original_session(self, session_id: str, container_id: str, now: Millis) -> None:
        """The first half of assignSessionToContainer."""
        times = {"createdAt": to_iso(now), "lastActivity": now}
        self.put_row(SESSIONS, to_item({"sessionId": session_id, "containerId": container_id, **times}))

    def delete_original_session(self, session_id: str) -> None:
        """The first half of releaseSession."""
        self.delete_row(SESSIONS, session_id)

    def add_raw_count(self, container_id: str, by: int) -> None:
        """The second half of either; creates the record when there is none, and goes below 0."""
        with self._lock:
            item = dict(self.rows[RECORDS].get(container_id, {"containerId": {"S": container_id}}))
            _add(item, "sessionCount", by)
            self._set(RECORDS, container_id, item)

    # Stale reads

    def read_sessions(self) -> SessionsRead:
        rows, unread, sight = self._scan("read_sessions", SESSIONS, self.session_lag, parse_session, "sessionId")
        return SessionsRead(tuple(rows), sight, self._quarantined(SESSIONS, unread, sight.read_at))

    def read_records(self) -> RecordsRead:
        rows, unread, sight = self._scan("read_records", RECORDS, self.record_lag, parse_record, "containerId")
        return RecordsRead(tuple(rows), sight, self._quarantined(RECORDS, unread, sight.read_at))

    def read_sessions_of(self, container_ids: Collection[str], session_ids: Collection[str]) -> SessionsRead:
        def of_these(rows: Mapping[str, Item]) -> list[Item]:
            late = [i for key, i in rows.items() if key not in session_ids]
            named = [self.rows[SESSIONS][key] for key in session_ids if key in self.rows[SESSIONS]]
            return [i for i in (*late, *named) if _text(i, "containerId") in container_ids]

        rows, unread, sight = self._scan(
            "read_sessions_of", SESSIONS, self.session_lag, parse_session, "sessionId", of_these
        )
        return SessionsRead(tuple(rows), sight, self._quarantined(SESSIONS, unread, sight.read_at))

    def read_records_of(self, container_ids: Collection[str]) -> RecordsRead:
        def of_these(rows: Mapping[str, Item]) -> list[Item]:
            return [rows[i] for i in container_ids if i in rows]

        rows, unread, sight = self._scan("read_records_of", RECORDS, 0, parse_record, "containerId", of_these)
        return RecordsRead(tuple(rows), sight, self._quarantined(RECORDS, unread, sight.read_at))

    def _scan(
        self,
        operation: str,
        table: str,
        lag: Millis,
        parse: Callable[[Item], Any],
        key: str,
        choose: Callable[[Mapping[str, Item]], list[Item]] = lambda rows: list(rows.values()),
    ) -> tuple[list[Any], list[Unread], Sight]:
        with self._lock:
            now = self._clock()
            try:
                with self._call(operation):
                    items = choose(self._as_of(table, now - lag))
            except AwsError as error:
                return [], [], Sight(Quality.UNKNOWN, f"page 1 failed: {error.code or error.what}", now)
            bad = _next(self._bad_pages, operation)
            if bad is None:
                return *parse_all(items, parse, key), Sight(Quality.COMPLETE, "", now)
            page, cause = bad
            seen = items[: (page - 1) * self.page_size]
            quality = Quality.INCOMPLETE if page > 1 else Quality.UNKNOWN
            return *parse_all(seen, parse, key), Sight(quality, f"page {page} failed: {cause.code}", now)

    def _quarantined(self, table: str, unread: Sequence[Unread], now: Millis) -> tuple[Quarantined, ...]:
        with self._lock:
            first_seen = _first_seen(self.rows[NOTES])
        return tuple(row.quarantined(table, first_seen, now) for row in unread)

    # Strong reads

    def get_session(self, session_id: str) -> Session | None:
        with self._call("get_session"):
            item = self.rows[SESSIONS].get(session_id)
            return parse_session(item) if item else None

    def get_record(self, container_id: str) -> ContainerRecord | None:
        with self._call("get_record"):
            item = self.rows[RECORDS].get(container_id)
            return parse_record(item) if item else None

    def look(self, container_ids: Collection[str]) -> dict[str, Look]:
        wanted = list(dict.fromkeys(container_ids))
        if not wanted:
            return {}
        with self._call("look"):
            ids = frozenset(wanted)
            items = [i for i in self.rows[SESSIONS].values() if _text(i, "containerId") in ids]
            sessions, unread = parse_all(items, parse_session, "sessionId")
            return {i: self._look_at(i, sessions, tuple(u.key for u in unread if u.container_id == i)) for i in wanted}

    def _look_at(self, container_id: str, sessions: Sequence[Session], unread: tuple[str, ...]) -> Look:
        here = tuple(s for s in sessions if s.container_id == container_id)
        item = self.rows[RECORDS].get(container_id)
        try:
            return Look(container_id, parse_record(item) if item else None, here, unread=unread)
        except RowError:
            return Look(container_id, None, here, record_readable=False, unread=unread)

    def read_notes(self) -> Notes:
        with self._call("read_notes"):
            pause = self.rows[NOTES].get("pause")
            return Notes(parse_pause(pause) if pause else None, _first_seen(self.rows[NOTES]))

    def preflight(self) -> dict[str, str]:
        with self._call("preflight"):
            return {
                name: f"id of {name}" for name in (self.names.sessions, self.names.containers, self.names.controller)
            }

    # Writes

    def write(self, write: RecordWrite) -> ContainerRecord:
        with self._call("write"):
            item = self.rows[RECORDS].get(write.container_id)
            _check_update(write)
            if not all(holds(condition, item or {}) for condition in write.expect):
                raise _refused(item)
            changed = updated(item or {"containerId": {"S": write.container_id}}, write)
            self._write("write", RECORDS, write.container_id, changed)
            return parse_record(changed)

    def note_first_seen(self, key: str, at: Millis) -> None:
        with self._call("note_first_seen"):
            if key not in self.rows[NOTES]:
                self._write("note_first_seen", NOTES, key, to_item({"name": key, "firstSeen": at}))

    def forget_first_seen(self, key: str) -> None:
        with self._call("forget_first_seen"):
            if key in self.rows[NOTES]:
                self._write("forget_first_seen", NOTES, key, None)

    def set_pause(self, by: str, reason: str, until: Millis) -> None:
        with self._call("set_pause"):
            pause = {"name": "pause", "by": by, "reason": reason, "until": until}
            self._write("set_pause", NOTES, "pause", to_item(pause))

    def clear_pause(self) -> bool:
        with self._call("clear_pause"):
            if "pause" not in self.rows[NOTES]:
                return False
            self._write("clear_pause", NOTES, "pause", None)
            return True

    def open(self, session: Session, identity: ContainerIdentity, now: Millis) -> bool:
        check_new_session(session, identity)
        with self._call("open"):
            there = self.rows[SESSIONS].get(session.session_id)
            if there is not None:
                check_open_session(parse_session(there), identity)
                return False
            record = self._owned(identity)
            _add(record, "sessionCount", 1)
            record |= to_item({"lastActivity": now, **triple(identity)})
            self._write("open", SESSIONS, session.session_id, session_item(session, identity, now))
            self._write("open", RECORDS, identity.container_id, record)
            return True

    def touch(self, session_id: str, container_id: str, now: Millis) -> None:
        with self._call("touch"):
            row, record = self._open_row(session_id, container_id), self.rows[RECORDS].get(container_id)
            if row is None or record is None:
                raise not_open(session_id, container_id, row_missing=row is None)
            self._write("touch", SESSIONS, session_id, {**row, "lastActivity": to_value(now)})
            self._write("touch", RECORDS, container_id, {**record, "lastActivity": to_value(now)})

    def release(self, session_id: str, container_id: str, now: Millis) -> bool:
        with self._call("release"):
            if self._open_row(session_id, container_id) is None:
                return False
            record = dict(self.rows[RECORDS].get(container_id, {"containerId": {"S": container_id}}))
            count = _number(record.get("sessionCount"))
            # Never counted, or no number at all: then it is made one.
            record["sessionCount"] = to_value(max(0, count - 1)) if count is not None else {"N": "0"}
            record["lastActivity"] = to_value(now)
            self._write("release", SESSIONS, session_id, None)
            self._write("release", RECORDS, container_id, record)
            return True

    def want(self, identity: ContainerIdentity, until: Millis, now: Millis) -> ContainerRecord:
        with self._call("want"):
            record = self._owned(identity)
            there = record.get("wantedUntil")
            number = _number(there)
            if absent(there) or (number is not None and number < until):
                record["wantedUntil"] = to_value(until)
            elif number is None:
                parse_record(record)  # which says what is wrong with it
            record |= to_item({"lastActivity": now, **triple(identity)})
            self._write("want", RECORDS, identity.container_id, record)
            return parse_record(record)

    def _owned(self, identity: ContainerIdentity) -> dict[str, Value]:
        item = dict(self.rows[RECORDS].get(identity.container_id, {}))
        check_owner(identity, from_item(item))
        return item or {"containerId": {"S": identity.container_id}}

    def _open_row(self, session_id: str, container_id: str) -> Item | None:
        row = self.rows[SESSIONS].get(session_id)
        return row if row is not None and _text(row, "containerId") == container_id else None

    def read_lease(self) -> Lease | None:
        with self._call("read_lease"):
            item = self.rows[NOTES].get("lease")
            return parse_lease(item) if item else None

    def write_lease(self, lease: Lease, seen: Lease | None) -> None:
        with self._call("write_lease"):
            item = self.rows[NOTES].get("lease")
            there = parse_lease(item) if item else None
            if (there and there.version) != (seen and seen.version):
                raise _refused(None)
            self._write("write_lease", NOTES, "lease", lease_item(lease))

    # Inside

    @contextmanager
    def _call(self, operation: str) -> Iterator[None]:
        with self._lock:
            self.calls[operation] += 1
            error = _next(self._errors, operation)
            if error is not None:
                raise error
            yield
            error = _next(self._lost, operation)
            if error is not None:
                raise error

    def _write(self, operation: str, table: str, key: str, item: Item | None) -> None:
        self._set(table, key, item)
        self.log.append(Written(self._clock(), operation, key))

    def _set(self, table: str, key: str, item: Item | None) -> None:
        now = self._clock()
        rows = self.rows[table]
        self._history.append((now, table, key, rows.get(key)))
        while self._history[0][0] < now - HISTORY_KEPT:
            self._history.popleft()
        if item is None:
            rows.pop(key, None)
        else:
            rows[key] = item

    def _as_of(self, table: str, at: Millis) -> Mapping[str, Item]:
        rows: dict[str, Item | None] = dict(self.rows[table])
        for when, where, key, before in reversed(self._history):
            if when <= at:
                break
            if where == table:
                rows[key] = before
        return {key: item for key, item in rows.items() if item is not None}


# What conditions and updates mean


def holds(condition: Condition, item: Item) -> bool:
    """Say whether one condition of the ledger holds for a row."""
    match condition:
        case Equals(path, value):
            return _same(_at(item, path), value)
        case Absent(path):
            return absent(_at(item, path))
        case OneOf(path, values, or_absent):
            there = _at(item, path)
            return any(_same(there, value) for value in values) or (or_absent and absent(there))
        case NoLaterThan(path, value):
            there = _at(item, path)
            number = _number(there)
            return absent(there) or (number is not None and number <= value)


def updated(item: Item, write: RecordWrite) -> dict[str, Value]:
    """Return the row with the write's attributes set and removed."""
    changed = {name: ({"M": dict(value["M"])} if "M" in value else value) for name, value in item.items()}
    for path in write.remove:
        parent = _parent(changed, path)
        if parent is not None:
            parent.pop(path[-1], None)
    for path, value in write.set.items():
        parent = _parent(changed, path)
        if parent is None:
            raise _invalid("The document path provided in the update expression is invalid for update")
        parent[path[-1]] = to_value(value)
    return changed


def _check_update(write: RecordWrite) -> None:
    paths = [*write.set, *write.remove]
    for index, path in enumerate(paths):
        if path[0] == "containerId":
            raise _invalid("Cannot update attribute containerId. This attribute is part of the key")
        for other in paths[index + 1 :]:
            shorter = min(len(path), len(other))
            if path[:shorter] == other[:shorter]:
                raise _invalid("Two document paths overlap with each other")


def _parent(item: dict[str, Any], path: Path) -> dict[str, Any] | None:
    if len(path) == 1:
        return item
    inner = item.get(path[0], {}).get("M")
    return inner if isinstance(inner, dict) else None


def _at(item: Item, path: Path) -> Value | None:
    value: Value | None = item.get(path[0])
    for name in path[1:]:
        value = (value or {}).get("M", {}).get(name)
    return value


def absent(value: Value | None) -> bool:
    """Say whether nothing is there: no attribute, NULL, or an empty text."""
    return value is None or "NULL" in value or value.get("S") == ""


def _same(there: Value | None, wanted: Any) -> bool:
    if there is None:
        return False
    number = _number(there)
    return number == wanted if number is not None else there == to_value(wanted)


def _number(value: Value | None) -> Decimal | None:
    return Decimal(value["N"]) if value and "N" in value else None


def _add(item: dict[str, Any], name: str, by: int) -> None:
    value = item.get(name)
    number = _number(value)
    if value is not None and number is None:
        raise _invalid("An operand in the update expression has an incorrect data type")
    item[name] = to_value((number or 0) + by)


def _key_of(table: str, item: Item) -> str:
    key = {SESSIONS: "sessionId", RECORDS: "containerId", NOTES: "name"}[table]
    return str(item[key]["S"])


def _text(item: Item, name: str) -> str | None:
    return item.get(name, {}).get("S")


def _first_seen(notes: Mapping[str, Item]) -> dict[str, Millis]:
    return {key: int(item["firstSeen"]["N"]) for key, item in notes.items() if "firstSeen" in item}


def _next(queues: Mapping[str, deque[_T]], operation: str) -> _T | None:
    queue = queues.get(operation)
    return queue.popleft() if queue else None


def _refused(item: Item | None) -> ConditionFailed:
    try:
        record = parse_record(item) if item else None
    except RowError:
        record = None
    return ConditionFailed(
        "the row is not as it was read",
        code="ConditionalCheckFailedException",
        operation="UpdateItem",
        item=from_item(item) if item else None,
        record=record,
    )


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest("UpdateItem was refused", message, code="ValidationException", operation="UpdateItem")


def throttled(operation: str) -> Throttled:
    """Return the error of a call that came too often."""
    return Throttled(f"{operation} was throttled", code="ThrottlingException", operation=operation)


def unavailable(operation: str) -> Unavailable:
    """Return the error of a call that got no answer."""
    return Unavailable(f"{operation} got no answer", code="ReadTimeoutError", operation=operation)
