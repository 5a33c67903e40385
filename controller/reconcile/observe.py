"""Builds the World, of all containers or of a few: tasks, then sessions, then records.

The order protects: a session that appears in between is seen although its task was not, never the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from controller.core.model import (
    MINUTE,
    ContainerRecord,
    Millis,
    Quality,
    Session,
    Sight,
    Task,
    World,
)
from controller.core.reads import Hint, RecordsRead, SessionsRead
from controller.reconcile.fleet import Fleet
from controller.reconcile.ports import NotesReader, RecordReader, SessionReader, TaskReader, TasksRead

STOPS_REMEMBERED: Millis = 60 * MINUTE
"""Longer than any window of a budget."""
_NOTHING_READ = Sight(Quality.COMPLETE)


class TablesReader(SessionReader, RecordReader, NotesReader, Protocol):
    """The tables as observe needs them."""


class Observer:
    """Looks at tables and tasks.

    It remembers when it first saw a session that carries no time of its own, and what `Fleet` says of the last looks.
    """

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
        self._newest = ""
        self.fleet = Fleet()

    def observe(self, nominated_before: frozenset[str] = frozenset()) -> World:
        """Return everything as it is seen now, each part with its quality."""
        listed = self._tasks.sweep()
        sessions = self._tables.read_sessions()
        records = self._tables.read_records()
        tasks = self._with_named(listed, records.records)
        self._newest = self._newest_definition()
        self._first_seen = self._first_sights(sessions.sessions)
        return self._seen(World(scope=None, nominated_before=nominated_before), sessions, records, tasks)

    def observe_some(self, hints: Mapping[str, Hint], nominated_before: frozenset[str] = frozenset()) -> World:
        """Return these containers as they are seen now, each part with its quality.

        Tasks: those that the record names, that a hint names, and that the container had when it was last seen. ECS
        lists no tasks by container, so one that nobody has told of is found when everything is looked at.
        """
        scope = frozenset(hints)
        arns = self.fleet.arns(scope).union(*(hint.task_arns for hint in hints.values()))
        listed = self._tasks.describe(sorted(arns)) if arns else TasksRead((), _NOTHING_READ)
        sessions = self._tables.read_sessions_of(scope, frozenset().union(*(h.session_ids for h in hints.values())))
        records = self._tables.read_records_of(scope)
        if any(_may_run_all_the_same(record) for record in records.records):
            swept = self._tasks.sweep()
            listed = TasksRead(_merge(listed.tasks, swept.tasks), _worse(listed.sight, swept.sight), listed.missing)
        tasks = self._with_named(listed, records.records)
        tasks = replace(tasks, tasks=tuple(t for t in tasks.tasks if t.container_id in scope))
        self._first_seen |= self._first_sights(sessions.sessions)
        others = self.fleet.others(scope, self._clock() - STOPS_REMEMBERED)
        empty = World(scope=scope, others=others, nominated_before=nominated_before)
        return self._seen(empty, sessions, records, tasks)

    def _seen(self, world: World, sessions: SessionsRead, records: RecordsRead, tasks: TasksRead) -> World:
        notes = self._tables.read_notes()
        seen = replace(
            world,
            sessions=sessions.sessions,
            records=records.records,
            tasks=tasks.tasks,
            quarantined=(*sessions.quarantined, *records.quarantined),
            missing=tasks.missing,
            sessions_sight=sessions.sight,
            records_sight=records.sight,
            tasks_sight=tasks.sight,
            first_seen=dict(self._first_seen),
            noted=frozenset(notes.first_seen),
            pause=notes.pause,
            clock_offset=self._clock_offset(),
            cluster=self._cluster,
            region=self._region,
            newest_definition=self._newest,
        )
        self.fleet.note(seen)
        return seen

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
        return {session_id: self._first_seen.get(session_id, now) for session_id in timeless}


def _may_run_all_the_same(record: ContainerRecord) -> bool:
    """Whether its last launch failed by ECS's word: what ECS could not place may come up later, and is only listed."""
    return record.failure is not None and record.names_no_task


def _merge(first: tuple[Task, ...], second: tuple[Task, ...]) -> tuple[Task, ...]:
    return tuple({t.arn: t for t in (*first, *second)}.values())


def _worse(a: Sight, b: Sight) -> Sight:
    return b if a.complete else a
