"""Writes to the API server, in a thread of its own: statuses, mirrors, events. The round never waits for it.

What is to be shown is kept as the latest word about each container, so that an outage of the API server costs nothing
but its length: when it is back, what is then true is written, once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller import telemetry
from controller.core.conditions import Summary
from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, SECOND, Millis, Save
from controller.kubernetes.api import Api, ApiError
from controller.kubernetes.objects import Objects, Seen
from controller.kubernetes.resource import (
    Json,
    merge_patch,
    mirror_of,
    moves_only_times,
    status_of,
    status_without_effect,
)

QUIET: Millis = MINUTE
"""When only lastActivity or the time of what comes next has moved, an object is written this often at most."""
LONGEST_BACKOFF = 30.0
EVENTS_KEPT = 200
"""Beyond that the oldest are dropped: they are for people who look on, the log has them all."""
GONE_IS_FINE = (404, 409, 422)
"""The object was changed or deleted meanwhile: its next state comes by watch, and is answered then."""


@dataclass(frozen=True, slots=True)
class Show:
    """What is to be seen of a container. summary None: nothing of it is left."""

    container_id: str
    summary: Summary | None
    save: Save | None = None
    mirrored: bool = False
    """Whether it is to have a mirror, when no object declares it."""


@dataclass(slots=True)
class _Pending:
    shows: dict[str, Show] = field(default_factory=dict)
    events: deque[Json] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))


class Publisher:
    """Call `show` and `event` from anywhere; `run` writes until `close`, `turn` writes what there is to write."""

    def __init__(
        self,
        api: Api,
        objects: Objects,
        clock: Callable[[], Millis],
        look: Callable[[str], None],
        *,
        mirrors: bool = True,
        resync: Millis = 10 * MINUTE,
    ) -> None:
        self._api = api
        self._objects = objects
        self._clock = clock
        self._look = look
        self._mirrors = mirrors
        self._resync = resync
        self._pending = _Pending()
        self._written: dict[str, Millis] = {}
        self._list_at: Millis = 0
        self._failures = 0
        self._closing = False
        self._news = threading.Condition()
        self.patches = 0
        """Writes to objects so far."""

    # What is to be shown

    def show(self, shows: Mapping[str, Show]) -> None:
        """Take in the latest word about these containers."""
        with self._news:
            self._pending.shows |= shows
            self._news.notify_all()

    def event(self, body: Json) -> None:
        """Take in an event to be posted."""
        with self._news:
            self._pending.events.append(body)
            self._news.notify_all()

    def relist(self) -> None:
        """List all objects anew: the watch may have missed what happened to them."""
        with self._news:
            self._list_at = 0
            self._news.notify_all()

    def close(self) -> None:
        """End `run` soon."""
        with self._news:
            self._closing = True
            self._news.notify_all()

    # The thread

    def run(self) -> None:
        """Write until `close`."""
        while not self._closing:
            wait = self.turn()
            with self._news:
                if not self._closing and wait > 0:
                    self._news.wait(wait)
                    if self._failures and not self._closing:
                        # Who is told that there is more to write need not ask a server that is away any sooner.
                        self._news.wait_for(lambda: self._closing, wait)

    def turn(self) -> float:
        """List if it is time, write what there is to write, and return the seconds until there may be more."""
        try:
            if self._clock() >= self._list_at:
                self._list()
            again = self._write_all()
            self._post_events()
        except ApiError as error:
            return self._failed(error)
        if self._failures:
            telemetry.event("kubernetes", message="the API server answers again")
        self._failures = 0
        return max(min(self._list_at, again) - self._clock(), 0) / SECOND

    def _list(self) -> None:
        bodies, version = self._api.list()
        for container_id in self._objects.replace(bodies, version):
            self._look(container_id)
        self._list_at = self._clock() + self._resync
        for seen in self._objects.unread():
            self._say_unreadable(seen)

    def _write_all(self) -> Millis:
        """Write what is new; return when what was put off may be written."""
        with self._news:
            todo, self._pending.shows = self._pending.shows, {}
        again = self._clock() + self._resync
        try:
            while todo:
                container_id, show = next(iter(todo.items()))
                put_off = self._write(show)
                del todo[container_id]
                if put_off is not None:
                    again = min(again, put_off)
                    with self._news:
                        self._pending.shows.setdefault(container_id, show)
        except ApiError:
            with self._news:
                self._pending.shows = {**todo, **self._pending.shows}
            raise
        return again

    def _write(self, show: Show) -> Millis | None:
        verdict = self._objects.of(show.container_id)
        shown = [verdict.winner] if verdict.winner else list(verdict.mirrors)
        put_off: list[Millis] = []
        for seen in shown:
            if seen and show.summary:
                status = self._status(seen, show)
                at = self._put_status(seen, status)
                if at is not None:
                    put_off.append(at)
        for other in verdict.others:
            self._put_status(other, self._passed_over(other, verdict.winner))
        self._keep_mirrors(show, declared=verdict.winner is not None, mirrors=verdict.mirrors)
        return min(put_off, default=None)

    def _status(self, seen: Seen, show: Show) -> Json:
        assert show.summary is not None
        generation = int(seen.body["metadata"].get("generation", 0))
        return status_of(
            show.summary, show.save, observed_generation=generation, before=seen.body.get("status"), now=self._clock()
        )

    def _passed_over(self, seen: Seen, winner: Seen | None) -> Json:
        message = f"{winner.name if winner else 'another'} is older and declares the same container"
        return self._without_effect(seen, "Superseded", message)

    def _without_effect(self, seen: Seen, reason: str, message: str) -> Json:
        generation = int(seen.body["metadata"].get("generation", 0))
        before = seen.body.get("status")
        return status_without_effect(reason, message, observed_generation=generation, before=before, now=self._clock())

    def _say_unreadable(self, seen: Seen) -> None:
        error = seen.error
        if error is not None:
            self._put_status(seen, self._without_effect(seen, "Invalid", f"{error.what}: {error.why}; {error.todo}"))

    def _put_status(self, seen: Seen, status: Json) -> Millis | None:
        """Patch an object's status if it is another one; return when to try again if it can wait."""
        patch = merge_patch(seen.body.get("status") or {}, status)
        if not patch:
            return None
        written = self._written.get(seen.name)
        if moves_only_times(patch) and written is not None and self._clock() < written + QUIET:
            return written + QUIET
        self._patch(seen, {"status": patch}, status=True)
        return None

    def _patch(self, seen: Seen, patch: Json, *, status: bool) -> None:
        try:
            self._objects.put(self._api.patch(seen.name, patch, status=status))
            self._written[seen.name] = self._clock()
            self.patches += 1
        except ApiError as error:
            if error.status not in GONE_IS_FINE:
                raise

    def _keep_mirrors(self, show: Show, *, declared: bool, mirrors: tuple[Seen, ...]) -> None:
        """Make the mirror that is missing, mend the one that was edited, remove those that show nothing."""
        identity = show.summary.identity if show.summary else None
        wanted = self._mirrors and show.mirrored and not declared and identity is not None
        for seen in mirrors:
            if not wanted or identity is None or seen.name != identity.kubernetes_name:
                self._remove(seen)
            else:
                self._mend(seen, identity)
        if wanted and identity is not None and not any(s.name == identity.kubernetes_name for s in mirrors):
            self._make(identity)

    def _make(self, identity: ContainerIdentity) -> None:
        try:
            self._objects.put(self._api.create(mirror_of(identity, self._api.namespace)))
            self.patches += 1
        except ApiError as error:
            if error.status not in GONE_IS_FINE:
                raise
        self._look(identity.container_id)

    def _mend(self, seen: Seen, identity: ContainerIdentity) -> None:
        patch = merge_patch(seen.body.get("spec") or {}, mirror_of(identity, self._api.namespace)["spec"])
        if patch:
            self._patch(seen, {"spec": patch}, status=False)

    def _remove(self, seen: Seen) -> None:
        try:
            self._api.delete(seen.name, str(seen.body["metadata"].get("uid", "")))
            self.patches += 1
        except ApiError as error:
            if error.status not in GONE_IS_FINE:
                raise

    def _post_events(self) -> None:
        while True:
            with self._news:
                if not self._pending.events:
                    return
                body = self._pending.events.popleft()
            try:
                self._api.post_event(body)
            except ApiError as error:
                # An event that the server does not take is not worth more than that; one that it did not get is old.
                if error.status in (0, 429) or error.status >= 500:
                    raise

    def _failed(self, error: ApiError) -> float:
        pause = min(2.0**self._failures, LONGEST_BACKOFF)
        if not self._failures:
            what = f"HTTP {error.status}: {error}" if error.status else str(error)
            telemetry.event("kubernetes", message=f"the API server: {what}; AWS is reconciled all the same")
        self._failures += 1
        return pause
