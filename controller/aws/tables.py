"""The three DynamoDB tables: `TableReader` looks, `Tables` writes too.

What a plan is given is a TableReader: it has no method that writes. Reads that may be stale (Scan) say how much they
saw in their Sight; strong reads raise AwsError when they cannot answer.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from controller.aws import schema, transactions
from controller.aws.client import DynamoDbCalls, part, translating
from controller.aws.refusals import (
    check_new_session,
    check_open_session,
    check_owner,
    identity_conflict,
    in_between,
    not_open,
)
from controller.aws.rows import (
    RECORDS,
    SESSIONS,
    Attributes,
    Item,
    Unread,
    parse_all,
    parse_pause,
    parse_record,
    parse_session,
    to_item,
    to_value,
)
from controller.aws.schema import CONTAINER_INDEX, TableNames
from controller.aws.transactions import Attempts
from controller.aws.writes import KEY, Expression, update_item
from controller.core.identity import MAX_KEY_BYTES, ContainerIdentity
from controller.core.ledger import RecordWrite
from controller.core.model import ContainerRecord, Hold, Millis, Quality, Quarantined, Session, Sight
from controller.core.reads import Look, Notes, RecordsRead, SessionsRead
from controller.errors import AwsError, ConditionFailed, RowError, Unavailable

__all__ = ["TableNames", "TableReader", "Tables"]

MAX_BATCH = 100
"""Keys in one BatchGetItem, and operands of one IN."""
QUERIES_AT_ONCE = 8
BATCH_TRIES = 6
"""Askings for keys that BatchGetItem left unprocessed."""
_PAUSE = "pause"
_QUARANTINE = "quarantine#"
_REFUSED = "ConditionalCheckFailed"

_Row = TypeVar("_Row")


class TableReader:
    """Reads the tables. `clock` gives epoch milliseconds; `pause` waits so many seconds between two tries.

    scan False says that only editctl's library writes sessions: then `look` asks the index first.
    """

    def __init__(
        self,
        client: DynamoDbCalls,
        names: TableNames,
        clock: Callable[[], Millis],
        *,
        region: str = "",
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        scan: bool = True,
    ) -> None:
        self._client = client
        self._names = names
        self._clock = clock
        self._region = region
        self._pause = pause
        self._attempts = Attempts(pause, chance)
        self._scan = scan

    def preflight(self) -> dict[str, str]:
        """Return the id of each table by its name. Raises TableNotFound, ConfigError, or what the call fails with."""
        return schema.check_tables(self._client, self._names, self._region)

    # What may be stale

    def read_sessions(self) -> SessionsRead:
        """Return the rows of the sessions table (eventual Scan, half the read units of a strong one)."""
        rows, unread, sight = self._read(self._names.sessions, parse_session, "sessionId")
        return SessionsRead(tuple(rows), sight, self._quarantined(SESSIONS, unread, sight.read_at))

    def read_records(self) -> RecordsRead:
        """Return the rows of the containers table (eventual Scan)."""
        rows, unread, sight = self._read(self._names.containers, parse_record, KEY)
        return RecordsRead(tuple(rows), sight, self._quarantined(RECORDS, unread, sight.read_at))

    def read_sessions_of(self, container_ids: Collection[str], session_ids: Collection[str]) -> SessionsRead:
        """Return the rows of these containers, by the index; the named sessions are read strongly.

        The index is late by a moment. Who knows which rows have changed names them, and sees them as they are.
        """
        names = self._names.sessions

        def pages() -> Iterator[Sequence[Item]]:
            named = {_text(i, "sessionId"): i for i in self._batches(names, "sessionId", session_ids)}
            yield [item for item in named.values() if _container_of(item) in container_ids]
            for items in self._indexed_all(sorted(container_ids)):
                yield [item for item in items if _text(item, "sessionId") not in session_ids]

        rows, unread, sight = self._read(names, parse_session, "sessionId", pages())
        return SessionsRead(tuple(rows), sight, self._quarantined(SESSIONS, unread, sight.read_at))

    def read_records_of(self, container_ids: Collection[str]) -> RecordsRead:
        """Return the records of these containers, read strongly."""
        table = self._names.containers
        # One row a page: a generator, so that a call that fails is the reader's to judge.
        pages = ([item] for item in self._batches(table, KEY, container_ids))
        rows, unread, sight = self._read(table, parse_record, KEY, pages)
        return RecordsRead(tuple(rows), sight, self._quarantined(RECORDS, unread, sight.read_at))

    def _read(
        self, table: str, parse: Callable[[Item], _Row], key: str, found: Iterable[Sequence[Item]] | None = None
    ) -> tuple[list[_Row], list[Unread], Sight]:
        began = self._clock()
        rows: list[_Row] = []
        unread: list[Unread] = []
        pages = 0
        try:
            for items in self._pages(table) if found is None else found:
                good, bad = parse_all(items, parse, key)
                rows += good
                unread += bad
                pages += 1
        except AwsError as error:
            seen = Quality.INCOMPLETE if pages else Quality.UNKNOWN
            detail = f"page {pages + 1} failed: {error.code if error.retryable else error.what}"
            return rows, unread, Sight(seen, detail, began)
        return rows, unread, Sight(Quality.COMPLETE, "", began)

    def _pages(self, table: str, operation: str = "Scan", **parameters: Any) -> Iterator[Sequence[Item]]:
        call = self._client.query if operation == "Query" else self._client.scan
        start: Mapping[str, Any] = {}
        before: set[str] = set()
        while True:
            with self._translating(operation, table):
                answer = call(TableName=table, **parameters, **start)
                items = part(answer, "Items")
            yield items
            last = answer.get("LastEvaluatedKey")
            if not last:
                return
            if repr(last) in before:
                raise Unavailable(
                    f"{operation} on table '{table}' goes round in circles",
                    "a page ended where an earlier one had ended",
                    "it is tried again by itself",
                    code="RepeatedKey",
                    operation=operation,
                )
            before.add(repr(last))
            start = {"ExclusiveStartKey": last}

    def _quarantined(self, table: str, unread: Sequence[Unread], now: Millis) -> tuple[Quarantined, ...]:
        if not unread:
            return ()
        try:
            first_seen = self.read_notes().first_seen
        except AwsError:
            # Without the notes each row counts as seen just now: it protects its container for longer, never less.
            first_seen = {}
        return tuple(row.quarantined(table, first_seen, now) for row in unread)

    # What everything written before the call began is in

    def get_session(self, session_id: str) -> Session | None:
        """Return the row, read strongly; None when the session is not open. Raises RowError when it cannot be read."""
        item = self._get(self._names.sessions, "sessionId", session_id)
        return parse_session(item) if item else None

    def get_record(self, container_id: str) -> ContainerRecord | None:
        """Return the record, read strongly. Raises RowError when it cannot be read."""
        item = self._get(self._names.containers, KEY, container_id)
        return parse_record(item) if item else None

    def _get(self, table: str, key: str, value: str) -> Item | None:
        with self._translating("GetItem", table):
            answer = self._client.get_item(TableName=table, Key={key: to_value(value)}, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    def look(self, container_ids: Collection[str]) -> dict[str, Look]:
        """Return a strong look at each container: all records first, then one Scan for the sessions of all of them.

        Without `scan`: the index for each, and the Scan only where rows and count do not agree.

        The Scan reads the whole base table, at twice the read units of a stale one (12,200 for 100k rows of 0.5 kB).
        Raises AwsError when any part of it fails: a look is whole or it is none.
        """
        wanted = list(dict.fromkeys(container_ids))
        if not wanted:
            return {}
        records, unreadable = self._look_at_records(wanted)
        sessions, unread = self._look_at_sessions(wanted) if self._scan else self._look_by_index(wanted, records)
        return {
            container_id: Look(
                container_id,
                records.get(container_id),
                tuple(s for s in sessions.get(container_id, ())),
                container_id not in unreadable,
                tuple(row.key for row in unread if row.container_id == container_id),
            )
            for container_id in wanted
        }

    def _look_at_records(self, wanted: Sequence[str]) -> tuple[dict[str, ContainerRecord], set[str]]:
        items = list(self._batches(self._names.containers, KEY, wanted))
        records, unread = parse_all(items, parse_record, KEY)
        return {r.container_id: r for r in records}, {row.key for row in unread}

    def _batches(self, table: str, key: str, values: Collection[str]) -> Iterator[Item]:
        """Yield the rows with these keys, read strongly; there is none for a text that no key can be."""
        keys = sorted(value for value in set(values) if 0 < len(value.encode()) <= MAX_KEY_BYTES)
        for start in range(0, len(keys), MAX_BATCH):
            yield from self._get_batch(table, key, keys[start : start + MAX_BATCH])

    def _get_batch(self, table: str, key: str, values: Sequence[str]) -> Iterator[Item]:
        asked: Mapping[str, Any] = {table: {"Keys": [{key: to_value(v)} for v in values], "ConsistentRead": True}}
        for attempt in range(BATCH_TRIES):
            with self._translating("BatchGetItem", table):
                answer = self._client.batch_get_item(RequestItems=asked)
                items = part(answer, "Responses").get(table, ())
            yield from items
            asked = answer.get("UnprocessedKeys") or {}
            if not asked:
                return
            self._pause(0.05 * 2**attempt)
        raise Unavailable(
            f"BatchGetItem on table '{table}' left rows unread {BATCH_TRIES} times",
            "DynamoDB has no capacity for them",
            "it is tried again by itself; if it stays, look at the table's throttling",
            code="UnprocessedKeys",
            operation="BatchGetItem",
        )

    def _look_by_index(
        self, wanted: Sequence[str], records: Mapping[str, ContainerRecord]
    ) -> tuple[dict[str, list[Session]], list[Unread]]:
        """Return the rows by the index, and by a Scan those of containers whose count they do not bear out.

        The index is late. Our writers move the fence and the count of the record, which was read strongly before: who
        has come since the index was written is seen there, and the confirmation is refused to who comes after it.
        """
        found: dict[str, list[Session]] = {}
        doubtful: list[str] = []
        for container_id in wanted:
            sessions, bad = parse_all(self._indexed(container_id), parse_session, "sessionId")
            found[container_id] = sessions
            record = records.get(container_id)
            if bad or len(sessions) != ((record.session_count if record else None) or 0):
                doubtful.append(container_id)
        if not doubtful:
            return found, []
        scanned, unread = self._look_at_sessions(doubtful)
        return {**found, **{i: scanned.get(i, []) for i in doubtful}}, unread

    def _indexed_all(self, container_ids: Sequence[str]) -> Iterator[Sequence[Item]]:
        """Yield the rows of each container by the index, several asked for at once."""
        if len(container_ids) <= 1:
            yield from (list(self._indexed(i)) for i in container_ids)
            return
        with ThreadPoolExecutor(min(QUERIES_AT_ONCE, len(container_ids)), "index") as pool:
            yield from pool.map(lambda i: list(self._indexed(i)), container_ids)

    def _indexed(self, container_id: str) -> Iterator[Item]:
        key = Expression()
        condition = key.equals((KEY,), container_id)
        for items in self._pages(
            self._names.sessions,
            "Query",
            IndexName=CONTAINER_INDEX,
            KeyConditionExpression=condition,
            **key.parameters(),
        ):
            yield from items

    def _look_at_sessions(self, wanted: Sequence[str]) -> tuple[dict[str, list[Session]], list[Unread]]:
        ids = frozenset(wanted)
        found: dict[str, list[Session]] = {}
        unread: list[Unread] = []
        for items in self._pages(self._names.sessions, ConsistentRead=True, **_filter(wanted)):
            sessions, bad = parse_all((i for i in items if _container_of(i) in ids), parse_session, "sessionId")
            unread += bad
            for session in sessions:
                found.setdefault(session.container_id, []).append(session)
        return found, unread

    # The controller table

    def read_notes(self) -> Notes:
        """Return the pause and the first sights of unreadable rows, read strongly."""
        pause: Hold | None = None
        first_seen: dict[str, Millis] = {}
        for items in self._pages(self._names.controller, ConsistentRead=True):
            for item in items:
                name = item.get("name", {}).get("S", "")
                if name == _PAUSE:
                    pause = parse_pause(item)
                elif name.startswith(_QUARANTINE):
                    first_seen.update(_first_sight(Attributes(item)))
        return Notes(pause, first_seen)

    def _translating(self, operation: str, table: str) -> AbstractContextManager[None]:
        return translating(operation, table=table, region=self._region, setting=self._names.setting(table))


class Tables(TableReader):
    """Writes the tables, too. Every write is conditional; the record's are values of `core/ledger.py`."""

    # Records

    def write(self, write: RecordWrite) -> ContainerRecord:
        """Return the record as it is now.

        Raises ConditionFailed when a condition does not hold, with the row that is there; nothing is changed then.
        """
        request = update_item(self._names.containers, write)
        return self._attempts(lambda: self._update_record(request))

    def _update_record(self, request: Mapping[str, Any]) -> ContainerRecord:
        try:
            with self._translating("UpdateItem", self._names.containers):
                item = part(self._client.update_item(**request), "Attributes")
        except ConditionFailed as refused:
            refused.record = _readable(refused.item)
            raise
        return parse_record(item)

    # Notes

    def note_first_seen(self, key: str, at: Millis) -> None:
        """Keep when an unreadable row (`table#key`) was first seen; an earlier note stays."""
        note = Expression()
        seen, row = note.path(("firstSeen",)), note.path(("row",))
        self._update_note(
            _note_name(key),
            f"SET {row} = {note.value(key)}, {seen} = if_not_exists({seen}, {note.value(at)})",
            note,
        )

    def forget_first_seen(self, key: str) -> None:
        """Drop the note of a row that is readable again or gone: with it, its next illness would protect nothing."""
        self._delete_note(_note_name(key))

    def set_pause(self, by: str, reason: str, until: Millis) -> None:
        """Let nothing be started, drained or stopped until then; a later pause replaces an earlier one."""
        note = Expression()
        values = {"by": by, "reason": reason, "until": until}
        self._update_note(
            _PAUSE, "SET " + ", ".join(f"{note.path((n,))} = {note.value(v)}" for n, v in values.items()), note
        )

    def clear_pause(self) -> bool:
        """Take the pause off; False when there was none."""
        return self._delete_note(_PAUSE)

    def _update_note(self, name: str, update: str, note: Expression) -> None:
        with self._translating("UpdateItem", self._names.controller):
            self._client.update_item(
                TableName=self._names.controller,
                Key={"name": to_value(name)},
                UpdateExpression=update,
                **note.parameters(),
            )

    def _delete_note(self, name: str) -> bool:
        with self._translating("DeleteItem", self._names.controller):
            answer = self._client.delete_item(
                TableName=self._names.controller, Key={"name": to_value(name)}, ReturnValues="ALL_OLD"
            )
        return bool(answer.get("Attributes"))

    # Session writers

    def open(self, session: Session, identity: ContainerIdentity, now: Millis) -> bool:
        """Put the row and add 1 to the count; False when it was open already, and nothing is counted then.

        Raises SessionExists when it is open on another container, IdentityConflict when the record is another triple's.
        """
        check_new_session(session, identity)
        return self._attempts(lambda: self._open(session, identity, now))

    def _open(self, session: Session, identity: ContainerIdentity, now: Millis) -> bool:
        request = transactions.open_session(self._names, session, identity, now)
        try:
            self._transact(request)
        except ConditionFailed as refused:
            if refused.reasons[0] != _REFUSED:
                raise identity_conflict(identity, refused.items[1]) from refused
            return self._is_same(session.session_id, identity)
        return True

    def _is_same(self, session_id: str, identity: ContainerIdentity) -> bool:
        there = self.get_session(session_id)
        if there is None:
            raise in_between("open", session_id)
        check_open_session(there, identity)
        return False

    def touch(self, session_id: str, container_id: str, now: Millis) -> None:
        """Move lastActivity of row and record. Raises SessionNotFound when either is gone: it never revives."""
        request = transactions.touch_session(self._names, session_id, container_id, now)
        try:
            self._attempts(lambda: self._transact(request))
        except ConditionFailed as refused:
            raise not_open(session_id, container_id, row_missing=refused.reasons[0] == _REFUSED) from refused

    def release(self, session_id: str, container_id: str, now: Millis) -> bool:
        """Delete the row and take 1 off the count, never below 0; False when it was not open on this container."""
        return self._attempts(lambda: self._release(session_id, container_id, now))

    def _release(self, session_id: str, container_id: str, now: Millis) -> bool:
        for build in (transactions.release_session, transactions.release_uncounted):
            try:
                self._transact(build(self._names, session_id, container_id, now))
            except ConditionFailed as refused:
                if refused.reasons[0] == _REFUSED:
                    return False
            else:
                return True
        # The count was not above 0, and then it was: somebody opened a session in between.
        raise in_between("release", session_id)

    def want(self, identity: ContainerIdentity, until: Millis, now: Millis) -> ContainerRecord:
        """Ask for the container until then, creating its record if there is none. Never shortens an earlier wish.

        Raises IdentityConflict when the record is another triple's, RowError when it cannot be read.
        """
        return self._attempts(lambda: self._want(identity, until, now))

    def _want(self, identity: ContainerIdentity, until: Millis, now: Millis) -> ContainerRecord:
        try:
            return self._update_record(transactions.want_longer(self._names, identity, until, now))
        except ConditionFailed as refused:
            check_owner(identity, refused.item)
        try:
            return self._update_record(transactions.want_as_long(self._names, identity, until, now))
        except ConditionFailed as refused:
            check_owner(identity, refused.item)
            if refused.item:
                parse_record(to_item(refused.item))
        raise in_between("want", identity.container_id)

    def _transact(self, operations: Sequence[Mapping[str, Any]]) -> None:
        with self._translating("TransactWriteItems", self._names.containers):
            self._client.transact_write_items(TransactItems=operations)


def _readable(item: Mapping[str, Any] | None) -> ContainerRecord | None:
    if item is None:
        return None
    try:
        return parse_record(to_item(item))
    except (RowError, TypeError):
        return None


def _first_sight(row: Attributes) -> dict[str, Millis]:
    try:
        key, seen = row.text("row"), row.time("firstSeen")
    except RowError:
        return {}
    return {key: seen} if key and seen is not None else {}


def _note_name(key: str) -> str:
    """Return the name of a quarantine note; a key as long as DynamoDB allows does not fit behind the prefix."""
    name = _QUARANTINE + key
    if len(name.encode()) <= MAX_KEY_BYTES:
        return name
    return _QUARANTINE + hashlib.sha256(key.encode()).hexdigest()


def _filter(container_ids: Sequence[str]) -> dict[str, Any]:
    """Return the Scan's filter; more ids than an IN takes are sorted out here, for the same read units."""
    if len(container_ids) > MAX_BATCH:
        return {}
    rows = Expression()
    listed = ", ".join(rows.value(i) for i in container_ids)
    return {"FilterExpression": f"{rows.path((KEY,))} IN ({listed})", **rows.parameters()}


def _container_of(item: Item) -> str | None:
    return _text(item, KEY)


def _text(item: Item, name: str) -> str | None:
    value = item.get(name, {}).get("S")
    return value if isinstance(value, str) else None
