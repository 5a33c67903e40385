"""What session writers write: a session row and its container's record change together, or not at all.

Repeats are safe by the conditions: a row is put only where there is none, and what is counted is tied to that row.
`lastActivity` of the record is the fence that a stop compares for equality, so each of these moves it to now. Two
writes in one millisecond leave the same number; that is harmless, because whoever read it after the first knew of
activity at this very millisecond, and an open or release also changes `sessionCount`, which is compared as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from controller.aws.rows import session_item, to_value, triple
from controller.aws.schema import TableNames
from controller.aws.writes import KEY, Expression, all_of
from controller.core.identity import ContainerIdentity
from controller.core.model import Millis, Session
from controller.errors import TransactionConflict

_T = TypeVar("_T")

LAST_ACTIVITY = ("lastActivity",)
SESSION_COUNT = ("sessionCount",)
WANTED_UNTIL = ("wantedUntil",)
SESSION_KEY = ("sessionId",)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Tries again when another transaction was in the way, at most `tries` times.

    pause waits so many seconds; chance gives a number in [0, 1) that spreads writers who met once.
    """

    pause: Callable[[float], None]
    chance: Callable[[], float]
    tries: int = 5
    first_pause: float = 0.05

    def __call__(self, call: Callable[[], _T]) -> _T:
        for attempt in range(1, self.tries):
            try:
                return call()
            except TransactionConflict:
                self.pause(self.first_pause * 2**attempt * (0.5 + self.chance() / 2))
        return call()


def open_session(names: TableNames, session: Session, identity: ContainerIdentity, now: Millis) -> list[dict[str, Any]]:
    """Put the row IF there is none, and add 1 to the count IF the record is this triple's or nobody's."""
    row = Expression()
    put = {
        "TableName": names.sessions,
        "Item": session_item(session, identity, now),
        "ConditionExpression": f"attribute_not_exists({row.path(SESSION_KEY)})",
        **row.parameters(),
    }
    record = Expression()
    add = {
        **_record_key(names, identity.container_id),
        "UpdateExpression": f"SET {_sets(record, identity, now)} ADD {record.path(SESSION_COUNT)} {record.value(1)}",
        "ConditionExpression": same_owner(record, identity),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        **record.parameters(),
    }
    return [{"Put": put}, {"Update": add}]


def touch_session(names: TableNames, session_id: str, container_id: str, now: Millis) -> list[dict[str, Any]]:
    """Move lastActivity of both rows IF both are there. Not "only if later": a skewed clock would defeat that."""
    row = Expression()
    move_row = {
        "TableName": names.sessions,
        "Key": {"sessionId": to_value(session_id)},
        "UpdateExpression": f"SET {row.path(LAST_ACTIVITY)} = {row.value(now)}",
        "ConditionExpression": _is_open(row, container_id),
        **row.parameters(),
    }
    record = Expression()
    move_record = {
        **_record_key(names, container_id),
        "UpdateExpression": f"SET {record.path(LAST_ACTIVITY)} = {record.value(now)}",
        "ConditionExpression": f"attribute_exists({record.path((KEY,))})",
        **record.parameters(),
    }
    return [{"Update": move_row}, {"Update": move_record}]


def release_session(names: TableNames, session_id: str, container_id: str, now: Millis) -> list[dict[str, Any]]:
    """Delete the row IF it is there and take 1 off the count IF it is above 0."""
    record = Expression()
    count = record.path(SESSION_COUNT)
    take = {
        **_record_key(names, container_id),
        "UpdateExpression": f"SET {record.path(LAST_ACTIVITY)} = {record.value(now)} ADD {count} {record.value(-1)}",
        "ConditionExpression": record.number(SESSION_COUNT, ">", 0),
        **record.parameters(),
    }
    return [{"Delete": _delete_row(names, session_id, container_id)}, {"Update": take}]


def release_uncounted(names: TableNames, session_id: str, container_id: str, now: Millis) -> list[dict[str, Any]]:
    """Delete the row IF it is there and set the count to 0 IF it is no number above it: the row was never counted."""
    record = Expression()
    count = record.path(SESSION_COUNT)
    zero = record.value(0)
    floor = {
        **_record_key(names, container_id),
        "UpdateExpression": f"SET {record.path(LAST_ACTIVITY)} = {record.value(now)}, {count} = {zero}",
        "ConditionExpression": f"NOT attribute_type({count}, {record.value('N')}) OR {count} <= {zero}",
        **record.parameters(),
    }
    return [{"Delete": _delete_row(names, session_id, container_id)}, {"Update": floor}]


def want_longer(names: TableNames, identity: ContainerIdentity, until: Millis, now: Millis) -> dict[str, Any]:
    """Ask for the container until then, IF nobody asked for longer and the record is this triple's or nobody's."""
    record = Expression()
    wanted, limit = record.path(WANTED_UNTIL), record.value(until)
    return {
        **_record_key(names, identity.container_id),
        "UpdateExpression": f"SET {_sets(record, identity, now)}, {wanted} = {limit}",
        "ConditionExpression": all_of(
            [
                same_owner(record, identity),
                f"({record.absent(WANTED_UNTIL)} OR {record.number(WANTED_UNTIL, '<', until)})",
            ]
        ),
        **_returned(record),
    }


def want_as_long(names: TableNames, identity: ContainerIdentity, until: Millis, now: Millis) -> dict[str, Any]:
    """Move the fence alone, IF somebody asked for at least as long and the record is this triple's or nobody's."""
    record = Expression()
    return {
        **_record_key(names, identity.container_id),
        "UpdateExpression": f"SET {_sets(record, identity, now)}",
        "ConditionExpression": all_of([same_owner(record, identity), record.number(WANTED_UNTIL, ">=", until)]),
        **_returned(record),
    }


def same_owner(record: Expression, identity: ContainerIdentity) -> str:
    """Return "the record is this triple's, or nobody's yet"."""
    return all_of(
        [f"({record.absent((name,))} OR {record.equals((name,), value)})" for name, value in triple(identity).items()]
    )


def _sets(record: Expression, identity: ContainerIdentity, now: Millis) -> str:
    values = {"lastActivity": now, **triple(identity)}
    return ", ".join(f"{record.path((name,))} = {record.value(value)}" for name, value in values.items())


def _record_key(names: TableNames, container_id: str) -> dict[str, Any]:
    return {"TableName": names.containers, "Key": {KEY: to_value(container_id)}}


def _returned(record: Expression) -> dict[str, Any]:
    return {
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        **record.parameters(),
    }


def _is_open(row: Expression, container_id: str) -> str:
    # A row that is not there has no containerId, so this says that there is one, too.
    return row.equals((KEY,), container_id)


def _delete_row(names: TableNames, session_id: str, container_id: str) -> dict[str, Any]:
    row = Expression()
    return {
        "TableName": names.sessions,
        "Key": {"sessionId": to_value(session_id)},
        "ConditionExpression": _is_open(row, container_id),
        **row.parameters(),
    }
