"""Builds the World: tasks, then sessions, then records.

The order protects: a session that appears in between is seen although its task was not, never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from controller.core.model import ContainerRecord, Millis, Session, Sight, Task, World
from controller.reconcile.ports import NotesReader, RecordReader, SessionReader, TaskReader, TasksRead


class TablesReader(SessionReader, RecordReader, NotesReader, Protocol):
    """The tables as observe needs them."""


class Observer:
    """Looks at tables and tasks; remembers nothing but when it first saw a session that carries no time of its own."""

    def __init__(
        self,
        tables: TablesReader,
        tasks: TaskReader,
        clock: Callable[[], Millis],
        *,
        cluster: str = "",
        region: str = "",
        clock_offset: Callable[[], Millis] = lambda: 0,
        newest_definition: Callable[[], str] = lambda: "",
    ) -> None:
        self._tables = tables
        self._tasks = tasks
        self._clock = clock
        self._cluster = cluster
        self._region = region
        self._clock_offset = clock_offset
        self._newest_definition = newest_definition
        self._first_seen: dict[str, Millis] = {}

    def observe(self, nominated_before: frozenset[str] = frozenset()) -> World:
        """Return everything as it is seen now, each part with its quality."""
        listed = self._tasks.sweep()
        sessions = self._tables.read_sessions()
        records = self._tables.read_records()
        tasks = self._with_named(listed, records.records)
        notes = self._tables.read_notes()
        return World(
            sessions=sessions.sessions,
            records=records.records,
            tasks=tasks.tasks,
            quarantined=(*sessions.quarantined, *records.quarantined),
            missing=tasks.missing,
            sessions_sight=sessions.sight,
            records_sight=records.sight,
            tasks_sight=tasks.sight,
            first_seen=self._first_sights(sessions.sessions),
            nominated_before=nominated_before,
            noted=frozenset(notes.first_seen),
            pause=notes.pause,
            clock_offset=self._clock_offset(),
            cluster=self._cluster,
            region=self._region,
            newest_definition=self._newest_definition(),
        )

    def _with_named(self, listed: TasksRead, records: tuple[ContainerRecord, ...]) -> TasksRead:
        """Ask ECS for the tasks that records name and no list shows: not being listed proves nothing."""
        known = {t.arn for t in listed.tasks}
        unlisted = sorted({r.task_arn for r in records if r.task_arn and r.task_arn not in known})
        if not unlisted:
            return listed
        described = self._tasks.describe(unlisted)
        return TasksRead(
            _merge(listed.tasks, described.tasks), _worse(listed.sight, described.sight), described.missing
        )

    def _first_sights(self, sessions: tuple[Session, ...]) -> dict[str, Millis]:
        now = self._clock()
        timeless = [
            s.session_id for s in sessions if s.last_activity is None or s.created_at is None or s.last_activity > now
        ]
        self._first_seen = {session_id: self._first_seen.get(session_id, now) for session_id in timeless}
        return self._first_seen


def _merge(first: tuple[Task, ...], second: tuple[Task, ...]) -> tuple[Task, ...]:
    return tuple({t.arn: t for t in (*first, *second)}.values())


def _worse(a: Sight, b: Sight) -> Sight:
    return b if a.complete else a
