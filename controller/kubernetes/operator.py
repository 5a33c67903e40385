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
from collections.abc import Callable, Iterator, Mapping
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
from controller.core.model import MINUTE, SECOND, ContainerRecord, Millis, OutcomeStatus
from controller.core.reads import Hint
from controller.errors import ConditionFailed, ConfigError, RowError
from controller.kubernetes.api import Api
from controller.kubernetes.objects import Objects
from controller.kubernetes.publisher import Publisher, Show
from controller.kubernetes.resource import GROUP, PLURAL, VERSION, Json
from controller.reconcile.due import Due
from controller.reconcile.reconciler import Round

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMESPACE = "editctl"
LONGEST_BACKOFF = 30.0
LONGEST_LINE = 160
LASTED = 90.0
"""Seconds after which a watch that ends has worked: kopf itself tries for a minute before it gives up."""
RELIST_AFTER: Millis = SECOND
"""When a watch begins it replays all objects, one by one: they are listed once, a little later."""
CLOSING = 0.25
AT_ONCE = 100
"""Records that are written before one round."""


class Records(Protocol):
    """The containers table as declarations need it."""

    def get_record(self, container_id: str) -> ContainerRecord | None: ...
    def write(self, write: RecordWrite) -> ContainerRecord: ...


class KubernetesHost:
    """What the loop calls before and after each round. look makes a container due."""

    def __init__(
        self,
        objects: Objects,
        records: Records,
        publisher: Publisher,
        look: Callable[[str], None],
    ) -> None:
        self._objects = objects
        self._records = records
        self._publisher = publisher
        self._look = look

    def before(self, container_ids: frozenset[str] | None) -> None:
        """Bring into the records what has changed in the objects since the last time. Raises AwsError.

        Of a few at a time, first those that are looked at now: the round must not wait for a thousand writes.
        """
        if not self._objects.listed:
            # Of two that declare a container, the one that counts may be the one that is not known yet.
            return
        changed = self._objects.take_changed()
        later = set(changed)
        try:
            for container_id in sorted(changed, key=lambda i: (i not in (container_ids or ()), i))[:AT_ONCE]:
                if self._declare(container_id):
                    later.discard(container_id)
        finally:
            self._objects.give_back(later)
        for container_id in later:
            self._look(container_id)

    def _declare(self, container_id: str) -> bool:
        """Return whether the record now says what the objects do; if not, it is tried again."""
        winner = self._objects.of(container_id).winner
        declared = winner.declared if winner else None
        try:
            record = self._records.get_record(container_id)
            if declared is None:
                if record and record.declared and not self._objects.is_unread(record.declared.uid):
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
        for outcome in done.outcomes:
            self._publisher.tell(outcome)
        if not done.plan.complete:
            return
        records = {r.container_id: r for r in done.world.records}
        shows = {
            s.container_id: _show(s, records.get(s.container_id))
            for s in summaries(done.plan, done.world.newest_definition)
        }
        scope = done.world.scope if done.world.scope is not None else self._objects.containers()
        for container_id in scope - shows.keys():
            shows[container_id] = Show(container_id, None)
        # What was decided before something was done is no longer true, and a round that sees it is due.
        moved = {o.action.container_id for o in done.outcomes if o.status is OutcomeStatus.DONE}
        self._publisher.show({i: show for i, show in shows.items() if i not in moved})
        for container_id in moved:
            winner = self._objects.of(container_id).winner
            if winner and not winner.body.get("status"):
                self._look(container_id)  # whoever has just applied it waits to see something
        if self._objects.listed:
            self._take_back(records)

    def _take_back(self, records: Mapping[str, ContainerRecord]) -> None:
        """See to the declarations whose object was deleted while nobody watched."""
        gone = [i for i, r in records.items() if r.declared and self._objects.of(i).winner is None]
        gone = [i for i in gone if not self._objects.is_unread(_uid_of(records[i]))]
        self._objects.give_back(gone)
        for container_id in gone:
            self._look(container_id)


def _show(summary: Summary, record: ContainerRecord | None) -> Show:
    return Show(
        summary.container_id,
        summary,
        save=record.save if record else None,
        declared=record.declared if record else None,
        mirrored=bool(summary.sessions) or summary.phase is not Phase.STOPPED,
    )


def _uid_of(record: ContainerRecord) -> str:
    return record.declared.uid if record.declared else ""


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
            began = time.monotonic()
            try:
                asyncio.run(self._operate())
            except Exception as error:
                # Whatever it is, the objects must be watched again; rounds go on meanwhile.
                if time.monotonic() > began + LASTED:
                    failures = 0
                failures += 1
                if failures == 1:
                    why = f"{type(error).__name__}: {error}"[:LONGEST_LINE]
                    telemetry.event("kubernetes", logging.WARNING, message=f"the watch begins anew, it ended: {why}")
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
        try:
            await kopf.operator(
                registry=self._registry(),
                settings=settings,
                namespaces=[self._namespace],
                standalone=True,
                stop_flag=self._stop,
            )
        finally:
            # Connections that are being closed need the event loop a little longer than kopf gives it to them.
            await asyncio.sleep(CLOSING)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def seen(event: Any, **_: Any) -> None:
            self.seen(event["type"], dict(event["object"]))

        return registry

    def seen(self, kind: str | None, body: Json) -> None:
        """Take in an event of the watch: the container that it is about is due."""
        if kind is None:
            # The watch begins, perhaps anew: what was deleted meanwhile it will never tell.
            self._publisher.relist(RELIST_AFTER)
        container_id = self._objects.remove(body) if kind == "DELETED" else self._objects.put(body)
        if container_id is not None:
            self._due.hint(Hint(container_id))
        elif kind != "DELETED" and self._objects.unread():
            self._publisher.wake()


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

    def __init__(self, publisher: Publisher) -> None:
        super().__init__()
        self._publisher = publisher

    def emit(self, record: logging.LogRecord) -> None:
        text, _, retried = record.getMessage().partition("; will retry")
        if retried:
            # One of many tries: a list tells whether the server is away, and tells it once.
            self._publisher.relist()
        else:
            telemetry.event("kubernetes", logging.WARNING, message=f"the watch: {text[:LONGEST_LINE]}")


def _shorten_the_log_of_kopf(publisher: Publisher) -> None:
    log = logging.getLogger("kopf")
    log.setLevel(logging.ERROR)
    log.handlers[:] = [_Shortened(publisher)]
    log.propagate = False


@contextmanager
def hosting(
    records: Records,
    due: Due,
    clock: Callable[[], Millis],
    *,
    namespace: str | None = None,
    mirrors: bool = True,
    resync: Millis = 10 * MINUTE,
) -> Iterator[tuple[KubernetesHost, Callable[[], str]]]:
    """Watch and write for as long as the block lasts; give the loop's host, and why it is not ready, if it is not.

    Raises ConfigError where no API server is known.
    """
    if login() is None:
        raise ConfigError(
            "--kubernetes finds no API server",
            "this is no Pod with a service account, and there is no kubeconfig",
            "set KUBECONFIG, or run without --kubernetes",
        )
    where = namespace or pod_namespace()
    objects = Objects()

    def look(container_id: str) -> None:
        due.hint(Hint(container_id))

    publisher = Publisher(Api(login, where, clock), objects, clock, look, mirrors=mirrors, resync=resync)
    _shorten_the_log_of_kopf(publisher)
    watch = Watch(objects, publisher, due, login, where)
    writer = threading.Thread(target=publisher.run, name="kubernetes", daemon=True)
    writer.start()
    watch.start()
    try:
        yield KubernetesHost(objects, records, publisher, look), lambda: unready(objects, publisher)
    finally:
        publisher.close()
        watch.close()
        writer.join(10.0)


def unready(objects: Objects, publisher: Publisher) -> str:
    """Return why declarations are not followed yet, empty when they are. An outage later stops status only."""
    if objects.listed:
        return ""
    return "the EditContainers are not listed yet" + (f": {publisher.trouble}" if publisher.trouble else "")


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

        def look(container_id: str) -> None:
            due.hint(Hint(container_id))

        self._publisher = Publisher(
            Api(login, namespace, wall_clock), objects, wall_clock, look, mirrors=loaded.config.mirror
        )
        self._host = KubernetesHost(objects, self._assembly.tables, self._publisher, look)
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
        leadership = self._assembly.leadership(f"kopf/{os.getpid()}", lambda: time.monotonic_ns() // 1_000_000)
        with self._assembly.listener(self._reconciler.due, leadership) as hints:
            self._assembly.loop(self._reconciler, leadership, self._stop, hints=hints, host=self._host).run()

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
