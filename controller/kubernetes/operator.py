"""The Kubernetes host of the loop: objects that declare go into records, what comes of them goes into their status.

kopf watches, and says which container an object is about: the rest is the loop's. It runs in a thread of its own, where
it may fail and come back; the loop stays in the main thread, so that an outage of the API server stops status only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import kopf

from controller import telemetry
from controller.assembly import Assembly, wall_clock
from controller.config import load
from controller.core import ledger
from controller.core.conditions import Phase, Summary, summaries
from controller.core.ledger import RecordWrite
from controller.core.model import ActionKind, ContainerRecord, Millis, Outcome, OutcomeStatus
from controller.core.reads import Hint
from controller.errors import ConditionFailed, RowError
from controller.kubernetes.api import Api
from controller.kubernetes.objects import Objects
from controller.kubernetes.publisher import Publisher, Show
from controller.kubernetes.resource import API_VERSION, GROUP, KIND, PLURAL, VERSION, Json, stamp
from controller.reconcile.due import Due
from controller.reconcile.loop import Loop
from controller.reconcile.reconciler import Round

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMESPACE = "editctl"
LONGEST_BACKOFF = 30.0
LONGEST_LINE = 160
_AT_REST = (Phase.STOPPED,)


class Records(Protocol):
    """The containers table as declarations need it."""

    def get_record(self, container_id: str) -> ContainerRecord | None: ...
    def write(self, write: RecordWrite) -> ContainerRecord: ...


class KubernetesHost:
    """What the loop calls before and after each round."""

    def __init__(self, objects: Objects, records: Records, publisher: Publisher, clock: Callable[[], Millis]) -> None:
        self._objects = objects
        self._records = records
        self._publisher = publisher
        self._clock = clock
        self._numbers = 0

    def before(self, container_ids: frozenset[str] | None) -> None:
        """Bring into the records what has changed in the objects since the last time. Raises AwsError."""
        changed = self._objects.take_changed()
        done: set[str] = set()
        try:
            for container_id in sorted(changed):
                if self._declare(container_id):
                    done.add(container_id)
        finally:
            self._objects.give_back(changed - done)

    def _declare(self, container_id: str) -> bool:
        """Return whether the record now says what the objects do; if not, it is tried again."""
        winner = self._objects.of(container_id).winner
        declared = winner.declared if winner else None
        if declared is None and not self._objects.listed:
            return False
        try:
            record = self._records.get_record(container_id)
            if declared is None:
                if record and record.declared:
                    self._records.write(ledger.undeclare(record))
            elif record and record.identity not in (None, declared.identity):
                return True  # another triple's: it is shown as IdentityConflict, and no object changes that
            elif record is None or record.declared != declared.declaration:
                self._records.write(ledger.declare(record, declared.identity, declared.declaration))
        except RowError:
            return True  # nobody can write to it; it is shown as quarantined
        except ConditionFailed:
            return False
        return True

    def after(self, done: Round) -> None:
        """Have shown what came of a round."""
        if not done.plan.complete:
            return
        records = {r.container_id: r for r in done.world.records}
        shows = {
            s.container_id: Show(s.container_id, s, _save_of(records.get(s.container_id)), _is_mirrored(s))
            for s in summaries(done.plan, done.world.newest_definition)
        }
        scope = done.world.scope if done.world.scope is not None else self._objects.containers()
        for container_id in scope - shows.keys():
            shows[container_id] = Show(container_id, None)
        self._publisher.show(shows)
        for outcome in done.outcomes:
            self._tell(outcome)
        if self._objects.listed:
            # A declaration whose object was deleted while nobody watched.
            self._objects.give_back(
                r.container_id
                for r in records.values()
                if r.declared and self._objects.of(r.container_id).winner is None
            )

    def _tell(self, outcome: Outcome) -> None:
        action = outcome.action
        if outcome.status is OutcomeStatus.SKIPPED or action.kind is ActionKind.RECORD:
            return
        verdict = self._objects.of(action.container_id)
        seen = verdict.winner or next(iter(verdict.mirrors), None)
        if seen is None:
            return
        self._numbers += 1
        metadata, now = seen.body["metadata"], self._clock()
        self._publisher.event(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "namespace": metadata["namespace"],
                    "name": f"{seen.name[:200]}.{now:x}{self._numbers:x}",
                },
                "involvedObject": {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "namespace": metadata["namespace"],
                    "name": seen.name,
                    "uid": metadata.get("uid"),
                },
                "type": "Warning" if outcome.status is OutcomeStatus.FAILED else "Normal",
                "reason": action.reason.value,
                "action": action.kind.value,
                "message": f"{action.kind.value}: {outcome.message}"[:1024],
                "source": {"component": "editctl"},
                "reportingComponent": "editctl",
                "reportingInstance": os.environ.get("HOSTNAME", "editctl"),
                "firstTimestamp": stamp(now),
                "lastTimestamp": stamp(now),
                "count": 1,
            }
        )


def _save_of(record: ContainerRecord | None) -> Any:
    return record.save if record else None


def _is_mirrored(summary: Summary) -> bool:
    return bool(summary.sessions) or summary.phase not in _AT_REST


class Watch:
    """kopf in a thread of its own; it comes back by itself when it ends."""

    def __init__(self, objects: Objects, publisher: Publisher, due: Due, login: Any, namespace: str) -> None:
        self._objects = objects
        self._publisher = publisher
        self._due = due
        self._login = login
        self._namespace = namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """End the watch and wait for it."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                asyncio.run(self._operate())
                failures = 0
            except Exception as error:
                # Whatever it is, the objects must be watched again; rounds go on meanwhile.
                if not failures:
                    telemetry.event("kubernetes", message=f"the watch has ended: {type(error).__name__}: {error}")
                failures += 1
            if not self._stop.is_set():
                self._publisher.relist()
                self._stop.wait(min(2.0 ** min(failures, 5), LONGEST_BACKOFF))

    async def _operate(self) -> None:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.networking.request_timeout = 15
        settings.networking.connect_timeout = 5
        settings.watching.inactivity_timeout = 70
        settings.process.ultimate_exiting_timeout = None
        await kopf.operator(
            registry=self._registry(),
            settings=settings,
            namespaces=[self._namespace],
            standalone=True,
            stop_flag=self._stop,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        def seen(event: Any, **_: Any) -> None:
            self.seen(event["type"], dict(event["object"]))

        return registry

    def seen(self, kind: str | None, body: Json) -> None:
        """Take in an event of the watch: the container that it is about is due."""
        container_id = self._objects.remove(body) if kind == "DELETED" else self._objects.put(body)
        if container_id is not None:
            self._due.hint(Hint(container_id))


def login(**more: Any) -> kopf.ConnectionInfo | None:
    """Return how the API server is reached: a kubeconfig where there is one, else the pod's service account."""
    more.setdefault("settings", kopf.OperatorSettings())
    return kopf.login_with_kubeconfig(**more) or kopf.login_with_service_account(**more)


def pod_namespace() -> str:
    """Return the pod's namespace, or ours where this is no pod."""
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or NAMESPACE
    except OSError:
        return NAMESPACE


class _Shortened(logging.Handler):
    """What kopf has to say of a watch that fails, as one short line of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().partition("; will retry")[0]
        telemetry.event("kubernetes", message=f"the watch: {text[:LONGEST_LINE]}")


def _shorten_the_log_of_kopf() -> None:
    log = logging.getLogger("kopf")
    log.setLevel(logging.ERROR)
    log.handlers[:] = [_Shortened()]
    log.propagate = False


@contextmanager
def hosting(
    records: Records,
    due: Due,
    clock: Callable[[], Millis],
    *,
    namespace: str | None = None,
    mirrors: bool = True,
    resync: Millis = 600_000,
) -> Iterator[tuple[KubernetesHost, Objects]]:
    """Watch and write for as long as the block lasts; give the loop's host, and the objects for readiness."""
    _shorten_the_log_of_kopf()
    where = namespace or pod_namespace()
    objects = Objects()
    api = Api(login, where, clock)
    publisher = Publisher(
        api, objects, clock, lambda container_id: _hint(due, container_id), mirrors=mirrors, resync=resync
    )
    watch = Watch(objects, publisher, due, login, where)
    writer = threading.Thread(target=publisher.run, name="kubernetes", daemon=True)
    writer.start()
    watch.start()
    try:
        yield KubernetesHost(objects, records, publisher, clock), objects
    finally:
        publisher.close()
        watch.close()
        writer.join(10.0)


def _hint(due: Due, container_id: str) -> None:
    due.hint(Hint(container_id))


# `kopf run -m controller.kubernetes.operator`, for development: there kopf has the main thread, and the loop another.


class _ThreadStop:
    """Asks a loop in a thread to stop."""

    def __init__(self) -> None:
        self.requested = False
        self._news = threading.Event()

    def stop(self) -> None:
        self.requested = True
        self._news.set()

    def wake(self) -> None:
        self._news.set()

    def wait(self, seconds: float) -> None:
        self._news.wait(max(seconds, 0))
        self._news.clear()


class Development:
    """The loop and what it writes, around a watch that somebody else runs; configured by environment and file."""

    def __init__(self, namespace: str) -> None:
        loaded = load()
        self._assembly = Assembly(loaded.config, local=loaded.local_endpoint is not None)
        self._reconciler = self._assembly.reconciler()
        objects, due = Objects(), self._reconciler.due
        self._publisher = Publisher(
            Api(login, namespace, wall_clock), objects, wall_clock, lambda container_id: _hint(due, container_id)
        )
        self._host = KubernetesHost(objects, self._assembly.tables, self._publisher, wall_clock)
        self.watch = Watch(objects, self._publisher, due, login, namespace)
        self._stop = _ThreadStop()
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for name, run in (("kubernetes", self._publisher.run), ("rounds", self._run))
        ]

    def start(self) -> None:
        """Begin with rounds."""
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        config = self._assembly.config
        leadership = self._assembly.leadership(f"kopf/{os.getpid()}", lambda: time.monotonic_ns() // 1_000_000)
        with self._assembly.listener(self._reconciler.due, leadership) as hints:
            Loop(
                self._reconciler,
                leadership,
                self._stop,
                wall_clock,
                config.poll,
                check=lambda: self._assembly.check_world(keep=True),
                resync=config.resync,
                hints=hints,
                host=self._host,
            ).run()

    def close(self) -> None:
        """End the round in hand, and give the lease up."""
        self._stop.stop()
        self._publisher.close()
        for thread in self._threads:
            thread.join(10.0)


_developing: list[Development] = []


@kopf.on.startup()
def _begin(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.posting.enabled = False
    settings.scanning.disabled = True
    telemetry.logger.setLevel(logging.INFO)
    _developing.append(Development(os.environ.get("POD_NAMESPACE") or pod_namespace()))
    _developing[-1].start()


@kopf.on.event(GROUP, VERSION, PLURAL)
def _seen(event: Any, **_: Any) -> None:
    _developing[-1].watch.seen(event["type"], dict(event["object"]))


@kopf.on.cleanup()
def _end(**_: Any) -> None:
    _developing.pop().close()
