"""One row of a table as one value of core, and back.

Rows are DynamoDB JSON (`{"S": "text"}`, `{"N": "12"}`). They are read one by one and strictly: what cannot be read
raises RowError with a sentence that names the attribute and what is there instead. Three things mean "not there": the
attribute is missing, it is NULL, or it is an empty text; the conditions in `writes.py` see it the same way, so what
was read as absent can be written as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeVar

from controller.core.identity import MAX_KEY_BYTES, ContainerIdentity, identity_or_none
from controller.core.model import (
    ContainerRecord,
    ContainerStatus,
    Declaration,
    Drain,
    DrainReason,
    Failure,
    Hold,
    Launch,
    Millis,
    Quarantined,
    RunPolicy,
    Save,
    Session,
)
from controller.errors import RowError

Value = Mapping[str, Any]
"""One attribute as DynamoDB JSON: the type's letters and the value."""
Item = Mapping[str, Value]
"""One row as DynamoDB JSON."""

SESSIONS = "sessions"
RECORDS = "records"
"""What `Quarantined.table` says: the kind of row, whatever the table is called in this installation."""

MAX_TIME: Millis = 253_402_300_800_000
"""The first millisecond of the year 10000: what lies beyond is no time."""
FOREVER: Millis = MAX_TIME - 1
MAX_COUNT = 2**53
"""No counter of ours comes near; beyond it a JavaScript writer cannot count."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SHOWN = 60
_FOREIGN = "the row was not written by this system"
_MEND = "correct or delete the row"

_Row = TypeVar("_Row")
_Enum = TypeVar("_Enum", bound=StrEnum)


class Attributes:
    """The attributes of one row, or of one map in it, read by type.

    Every method returns None for what is not there and raises RowError for what is of another type or out of range.
    """

    def __init__(self, item: Item, path: str = "") -> None:
        self._item = item
        self._path = path

    def text(self, name: str) -> str | None:
        """Return a text (S), None for an empty one."""
        value = self._of_type(name, "S", "a text")
        return value or None

    def whole(self, name: str, lowest: int = -MAX_COUNT, beyond: int = MAX_COUNT) -> int | None:
        """Return a whole number (N), exactly as it is there: conditions compare it."""
        number = self._number(name, lowest, beyond)
        if number is None:
            return None
        if number != number.to_integral_value():
            raise self._error(name, "is not a whole number", str(number))
        return int(number)

    def time(self, name: str) -> Millis | None:
        """Return epoch milliseconds (N), exactly as they are there."""
        return self.whole(name, 0, MAX_TIME)

    def rounded_time(self, name: str) -> Millis | None:
        """Return epoch milliseconds (N), fractions cut off; for times that no condition compares."""
        number = self._number(name, 0, MAX_TIME)
        return None if number is None else int(number)

    def moment(self, name: str) -> Millis | None:
        """Return epoch milliseconds from an ISO 8601 text, or from a number of them."""
        if "N" in self._item.get(name, {}):
            return self.rounded_time(name)
        value = self.text(name)
        if value is None:
            return None
        try:
            return from_iso(value)
        except ValueError:
            raise self._error(name, "is not an ISO 8601 time", value) from None

    def one_of(self, name: str, words: type[_Enum]) -> _Enum | None:
        """Return the member of a closed list of words."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return words(value)
        except ValueError:
            raise self._error(name, f"is none of {', '.join(words)}", value) from None

    def map(self, name: str) -> Attributes | None:
        """Return the attributes of a map (M)."""
        value = self._of_type(name, "M", "a map")
        return None if value is None else Attributes(value, self._named(name) + ".")

    def _number(self, name: str, lowest: int, beyond: int) -> Decimal | None:
        text = self._of_type(name, "N", "a number")
        if text is None:
            return None
        try:
            number = Decimal(text)
        except (InvalidOperation, TypeError, ValueError):
            raise self._error(name, "is not a number", str(text)) from None
        if not number.is_finite() or not lowest <= number < beyond:
            raise self._error(name, "is out of range", str(text))
        return number

    def _of_type(self, name: str, kind: str, meaning: str) -> Any:
        value = self._item.get(name)
        if value is None or "NULL" in value:
            return None
        if kind not in value:
            raise self._error(name, f"is of type {next(iter(value), '?')}, not {meaning}", value)
        return value[kind]

    def _named(self, name: str) -> str:
        return self._path + name

    def needed(self, name: str, value: _Row | None) -> _Row:
        """Return the value, or raise RowError when there is none."""
        if value is None:
            raise RowError(f"{self._named(name)} is missing", "a row without it cannot be understood", _MEND)
        return value

    def _error(self, name: str, wrong: str, value: Any) -> RowError:
        return RowError(
            f"{self._named(name)} {wrong}: {shown(value)}",
            _FOREIGN,
            _MEND,
        )


def shown(value: Any) -> str:
    """Return a value of unknown origin so that it can stand in a sentence: quoted, escaped, cut, with its size.

    Rows are written by others: an escape sequence, a newline or 400 kB must not reach a terminal or a log.
    """
    if isinstance(value, Mapping):
        value = next(iter(value.values()), "")
    size = len(value) if isinstance(value, (str, bytes, list, tuple, Mapping, set)) else 0
    text = ascii(value[:_SHOWN] if isinstance(value, (str, bytes, list)) else str(value)[:_SHOWN])
    cut = text if len(text) <= 2 * _SHOWN else text[: 2 * _SHOWN] + "…"
    return f"{cut} ({size:,} in all)" if size > _SHOWN else cut


# Times


def from_iso(text: str) -> Millis:
    """Return epoch milliseconds of an ISO 8601 time; one without an offset is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # In whole numbers: a float of seconds is a millisecond off now and then.
    millis = (aware - _EPOCH) // _MILLISECOND
    if not 0 <= millis < MAX_TIME:
        raise ValueError(f"{text!r} is out of range")
    return millis


def to_iso(millis: Millis) -> str:
    """Return the time as the original system writes it: UTC, milliseconds, a Z."""
    return (_EPOCH + millis * _MILLISECOND).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Rows


def parse_session(item: Item) -> Session:
    """Return a row of the sessions table. Raises RowError.

    A row of the original writer has no client, project and user: its `identity` is None. A `createdAt` that cannot be
    read counts as none as long as `lastActivity` can: only that decides how long the session is active.
    """
    row = Attributes(item)
    container_id = _container_id(row)
    last_activity = row.rounded_time("lastActivity")
    return Session(
        session_id=row.needed("sessionId", row.text("sessionId")),
        container_id=container_id,
        identity=_triple(row, container_id),
        input_queue_url=row.text("inputQueueUrl") or "",
        output_queue_url=row.text("outputQueueUrl") or "",
        created_at=_created_at(row, needed=last_activity is None),
        last_activity=last_activity,
    )


def _container_id(row: Attributes) -> str:
    container_id = row.needed("containerId", row.text("containerId"))
    if len(container_id.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise RowError(
            f"containerId is longer than a key can be: {shown(container_id)}",
            f"DynamoDB allows {MAX_KEY_BYTES} bytes",
            _MEND,
        )
    return container_id


def _triple(row: Attributes, container_id: str) -> ContainerIdentity | None:
    """Return the triple that the row carries. A part of one, or one that makes another container id, is an error."""
    parts = {name: row.text(name) for name in ("clientId", "projectId", "userId")}
    if not any(parts.values()):
        return None
    missing = [name for name, value in parts.items() if value is None]
    if missing:
        raise RowError(
            f"{' and '.join(missing)} missing beside {', '.join(n for n in parts if n not in missing)}",
            "a row carries all three or none",
            _MEND,
        )
    identity = identity_or_none(*parts.values())
    if identity is None:
        values = ", ".join(shown(value) for value in parts.values())
        raise RowError(f"clientId, projectId, userId cannot be a container's: {values}", _FOREIGN, _MEND)
    if identity.container_id != container_id:
        made, said = shown(identity.container_id), shown(container_id)
        raise RowError(
            f"clientId, projectId, userId make the container id {made}, the row says {said}",
            "it cannot be said whose row this is",
            _MEND,
        )
    return identity


def _created_at(row: Attributes, *, needed: bool) -> Millis | None:
    try:
        return row.moment("createdAt")
    except RowError:
        if needed:
            raise
        return None


def parse_record(item: Item) -> ContainerRecord:
    """Return a row of the containers table. Raises RowError.

    Every attribute but the key may be missing: a bare `ADD sessionCount` of the original writers creates a row too.
    """
    row = Attributes(item)
    container_id = _container_id(row)
    return ContainerRecord(
        container_id=container_id,
        identity=_triple(row, container_id),
        status=row.one_of("containerStatus", ContainerStatus),
        task_arn=row.text("taskArn"),
        container_ip=row.text("containerIp"),
        session_count=row.whole("sessionCount"),
        created_at=_created_at(row, needed=False),
        last_activity=row.time("lastActivity"),
        generation=row.whole("generation", 0),
        launch=_part(row, "launch", _launch),
        wanted_until=row.time("wantedUntil"),
        empty_since=row.time("emptySince"),
        drain=_part(row, "drain", _drain),
        save=_part(row, "save", _save),
        failure=_part(row, "failure", _failure),
        hold=_part(row, "hold", parse_hold),
        declared=_part(row, "declared", _declaration),
    )


def _part(row: Attributes, name: str, parse: Callable[[Attributes], _Row]) -> _Row | None:
    part = row.map(name)
    return None if part is None else parse(part)


def _launch(row: Attributes) -> Launch:
    return Launch(
        requested_at=row.needed("requestedAt", row.time("requestedAt")),
        request=row.text("request") or "",
        key_id=row.text("keyId") or "",
    )


def _drain(row: Attributes) -> Drain:
    return Drain(
        id=row.needed("id", row.whole("id", 0)),
        reason=row.needed("reason", row.one_of("reason", DrainReason)),
        requested_at=row.needed("requestedAt", row.time("requestedAt")),
        deadline=row.time("deadline"),
        stopping_at=row.time("stoppingAt"),
        confirmed_at=row.time("confirmedAt"),
    )


def _save(row: Attributes) -> Save:
    return Save(
        state=row.needed("state", row.text("state")),
        branch=row.text("branch") or "",
        commit=row.text("commit") or "",
        remote_commit=row.text("remoteCommit") or "",
        rescue_ref=row.text("rescueRef") or "",
        at=row.time("at"),
        message=row.text("message") or "",
    )


def _failure(row: Attributes) -> Failure:
    return Failure(
        count=row.needed("count", row.whole("count", 0)),
        reason=row.text("reason") or "",
        at=row.needed("at", row.time("at")),
        retry_at=row.needed("retryAt", row.time("retryAt")),
    )


def parse_hold(row: Attributes) -> Hold:
    """Return a hold, of a record, a declaration or everything. Raises RowError."""
    return Hold(by=row.text("by") or "", reason=row.text("reason") or "", until=row.needed("until", row.time("until")))


def parse_pause(item: Item) -> Hold:
    """Return the pause. One that cannot be read is a pause without end: somebody wanted everything to stand still."""
    try:
        return parse_hold(Attributes(item))
    except RowError as error:
        return Hold("", f"the pause row cannot be read: {error.what}", FOREVER)


def _declaration(row: Attributes) -> Declaration:
    return Declaration(
        uid=row.needed("uid", row.text("uid")),
        generation=row.whole("generation", 0) or 0,
        run_policy=row.one_of("runPolicy", RunPolicy) or RunPolicy.AUTO,
        idle_timeout=row.time("idleTimeout"),
        cpu=row.text("cpu") or "",
        memory=row.text("memory") or "",
        hold=_part(row, "hold", parse_hold),
    )


# Many rows


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that cannot be read: its key as far as it has one, and why."""

    key: str
    container_id: str | None
    reason: str

    def quarantined(self, table: str, first_seen: Mapping[str, Millis], now: Millis) -> Quarantined:
        """Return it with the time it was first seen, which is now when nobody noted an earlier one."""
        return Quarantined(table, self.key, self.container_id, self.reason, first_seen.get(f"{table}#{self.key}", now))


def parse_all(items: Iterable[Item], parse: Callable[[Item], _Row], key: str) -> tuple[list[_Row], list[Unread]]:
    """Return the rows that can be read and, apart, those that cannot; no row keeps another from being read."""
    rows: list[_Row] = []
    unread: list[Unread] = []
    for item in items:
        try:
            rows.append(parse(item))
        except RowError as error:
            unread.append(Unread(_plain_text(item, key) or "?", _plain_text(item, "containerId"), error.what))
    return rows, unread


def _plain_text(item: Item, name: str) -> str | None:
    value = item.get(name, {}).get("S")
    return value if isinstance(value, str) and value and len(value) <= MAX_KEY_BYTES else None


# Values


def to_value(value: Any) -> dict[str, Any]:
    """Return a plain value as DynamoDB JSON: text, number, truth, None, or a list or map of those."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int() | Decimal():
            return {"N": str(value)}
        case str():
            return {"S": str(value)}
        case Mapping():
            return {"M": {name: to_value(v) for name, v in value.items()}}
        case list():
            return {"L": [to_value(v) for v in value]}
        case _:
            raise TypeError(f"no attribute of a row is a {type(value).__name__}")


def from_value(value: Value) -> Any:
    """Return the plain value of DynamoDB JSON; numbers as int where they are whole, else as Decimal."""
    kind, inner = next(iter(value.items()))
    match kind:
        case "N":
            return _from_number(inner)
        case "NULL":
            return None
        case "M":
            return {name: from_value(v) for name, v in inner.items()}
        case "L":
            return [from_value(v) for v in inner]
        case "NS":
            return {_from_number(v) for v in inner}
        case _:
            return inner


def _from_number(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number.is_finite() and number == number.to_integral_value() else number


def to_item(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return plain values as a row."""
    return {name: to_value(value) for name, value in values.items()}


def from_item(item: Item) -> dict[str, Any]:
    """Return a row as plain values."""
    return {name: from_value(value) for name, value in item.items()}


def session_item(session: Session, identity: ContainerIdentity, now: Millis) -> dict[str, dict[str, Any]]:
    """Return the row that `open` puts: the original's attributes and the triple, active now."""
    values: dict[str, Any] = {
        "sessionId": session.session_id,
        "containerId": identity.container_id,
        "inputQueueUrl": session.input_queue_url,
        "outputQueueUrl": session.output_queue_url,
        "createdAt": to_iso(session.created_at if session.created_at is not None else now),
        "lastActivity": now,
        **triple(identity),
    }
    return to_item({name: value for name, value in values.items() if value != ""})


def triple(identity: ContainerIdentity) -> dict[str, str]:
    """Return the three attributes that say whose a row is."""
    return {"clientId": identity.client_id, "projectId": identity.project_id, "userId": identity.user_id}
