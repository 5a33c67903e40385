"""Writes to the API server, in a thread of its own: statuses, mirrors, events. The round never waits for it.

What is to be shown is kept as the latest word about each container, so that an outage of the API server costs nothing
but its length: when it is back, what is then true is written, once. What it refuses of one object keeps no other from
being written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from controller import telemetry
from controller.core.conditions import Condition, Phase, Summary
from controller.core.identity import ContainerIdentity
from controller.core.model import MINUTE, SECOND, Declaration, Millis, Outcome, Save
from controller.kubernetes.api import Api, ApiError
from controller.kubernetes.events import Event, Events
from controller.kubernetes.objects import Objects, Seen, Verdict
from controller.kubernetes.resource import (
    ORIGIN_LABEL,
    Json,
    is_under_way,
    merge_patch,
    mirror_of,
    moves_only_times,
    status_of,
    status_without_effect,
)

QUIET: Millis = MINUTE
"""When only times have moved, or a launch or a stop has gone on by a step, an object is written this often at most."""
AGAIN: Millis = 2 * SECOND
"""When an object was changed under our hands, it is looked at, and written this much later."""
FORBIDDEN_FOR: Millis = 30 * SECOND
LONGEST_BACKOFF = 30.0
EVENTS_A_TURN = 20
"""Statuses must not wait for a thousand events."""
SUPERSEDED = "Superseded"
INVALID = "Invalid"
_DUPLICATE = "Duplicate"
_STALLED = "Stalled"


@dataclass(frozen=True, slots=True)
class Show:
    """What is to be seen of a container. summary None: nothing of it is left."""

    container_id: str
    summary: Summary | None
    save: Save | None = None
    declared: Declaration | None = None
    """What its record declares: what is shown was decided by that, and not by an object that has changed since."""
    mirrored: bool = False
    """Whether it is to have a mirror, when no object declares it."""


class Publisher:
    """Call `show` and `tell` from anywhere; `run` writes until `close`, `turn` writes what there is to write."""

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
        self._shows: dict[str, Show] = {}
        self._events = Events(clock)
        self._written: dict[str, Millis] = {}
        self._refused: dict[str, int] = {}
        self._said: set[tuple[str, int]] = set()
        self._list_at: Millis = 0
        self._failures = 0
        self._closing = False
        self._woken = False
        self._news = threading.Condition()
        self.trouble = ""
        """Why the API server cannot be asked, empty when it can."""

    # What is to be shown

    def show(self, shows: Mapping[str, Show]) -> None:
        """Take in the latest word about these containers."""
        if shows:
            with self._news:
                self._shows |= shows
                self._wake()

    def tell(self, outcome: Outcome) -> None:
        """Take in what an action came to, to be posted as an event."""
        if self._events.tell(outcome):
            self.wake()

    def relist(self, after: Millis = 0) -> None:
        """List all objects anew: the watch may have missed what happened to them."""
        at = self._clock() + after
        with self._news:
            if at < self._list_at:
                self._list_at = at
                self._wake()

    def wake(self) -> None:
        """There is something to write."""
        with self._news:
            self._wake()

    def _wake(self) -> None:
        # Noted, too: whoever would be woken may be about to wait.
        self._woken = True
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
            with self._news:
                self._woken = False
            wait = self.turn()
            with self._news:
                # Who is told that there is more to write need not ask a server that is away any sooner.
                self._news.wait_for(lambda: self._closing or (self._woken and not self._failures), wait)

    def turn(self) -> float:
        """List if it is time, write what there is to write, and return the seconds until there may be more."""
        try:
            if self._clock() >= self._list_at:
                self._list()
            again = self._write_all()
            more = self._post_events()
        except ApiError as error:
            return self._failed(f"HTTP {error.status}: {error}" if error.status else str(error))
        except Exception as error:
            # Whatever it is: without this thread no status is ever written again.
            return self._failed(f"unexpected {type(error).__name__}: {error}")
        if self._failures:
            telemetry.event("kubernetes", message="the API server answers again")
            self._failures, self.trouble = 0, ""
            # What was deleted while it was away is in no watch that begins now.
            self.relist()
        return 0.0 if more else max(min(self._list_at, again) - self._clock(), 0) / SECOND

    def _failed(self, why: str) -> float:
        pause = min(2.0**self._failures, LONGEST_BACKOFF)
        self.trouble = why
        if not self._failures:
            telemetry.event(
                "kubernetes", logging.WARNING, message=f"the API server: {why}; AWS is reconciled all the same"
            )
        self._failures += 1
        return pause

    def _list(self) -> None:
        now = self._clock()
        with self._news:
            self._list_at = now + self._resync
        try:
            bodies, version = self._api.list()
        except BaseException as error:
            self.relist()
            if isinstance(error, ApiError) and error.status == 404:
                raise ApiError(404, "it knows no EditContainers; editctl crd | kubectl apply -f - tells it") from None
            raise
        for container_id in self._objects.replace(bodies, version):
            self._look(container_id)
        # What is refused is tried again, and told again: it may have been mended.
        self._refused.clear()
        self._said.clear()
        self._written = {name: at for name, at in self._written.items() if now < at + QUIET}
        self._events.tidy()

    # Statuses

    def _write_all(self) -> Millis:
        """Write what is new; return when what was put off may be written."""
        again = self._clock() + self._resync
        for seen in self._objects.unread():
            self._put_status(seen, self._unreadable(seen))
        with self._news:
            todo, self._shows = self._shows, {}
        try:
            while todo:
                container_id, show = next(iter(todo.items()))
                put_off = self._write_one(show)
                del todo[container_id]
                if put_off is not None:
                    again = min(again, put_off)
                    with self._news:
                        self._shows.setdefault(container_id, show)
        finally:
            with self._news:
                self._shows = {**todo, **self._shows}
        return again

    def _write_one(self, show: Show) -> Millis | None:
        try:
            return self._write(show)
        except ApiError:
            raise
        except Exception as error:
            # One that cannot be written must not keep the others from it.
            telemetry.event(
                "kubernetes",
                logging.ERROR,
                containerId=show.container_id,
                message=f"its status cannot be made: {type(error).__name__}: {error}",
            )
            return None

    def _write(self, show: Show) -> Millis | None:
        verdict = self._objects.of(show.container_id)
        put_off = [self._put_status(other, self._passed_over(other, verdict)) for other in verdict.others]
        put_off += [self._put_status(stray, self._astray(stray)) for stray in verdict.strays]
        shown = verdict.winner
        if shown is None:
            shown, again = self._mirror(show, verdict.mirror)
            put_off.append(again)
        elif verdict.mirror:
            put_off.append(self._remove(verdict.mirror))
        if shown and show.summary and self._is_of(show, shown):
            put_off.append(self._put_status(shown, self._status(shown, show, verdict)))
        return min((at for at in put_off if at is not None), default=None)

    @staticmethod
    def _is_of(show: Show, seen: Seen) -> bool:
        """Tell whether a round has taken in what the object asks for; if not, one that does is on its way.

        What is held may never be taken in: its record is another's, or unreadable.
        """
        assert seen.declared is not None
        assert show.summary is not None
        declaration = seen.declared.declaration
        return seen.declared.is_mirror or declaration == show.declared or show.summary.phase is Phase.HELD

    def _status(self, seen: Seen, show: Show, verdict: Verdict) -> Json:
        assert seen.declared is not None
        summary = show.summary
        assert summary is not None
        if verdict.others:
            names = ", ".join(other.name for other in verdict.others)
            message = f"{names} would declare it, too, and is passed over: {seen.name} is older"
            said = Condition(_DUPLICATE, "True", SUPERSEDED, message)
            rest = summary.conditions
            summary = replace(
                summary,
                conditions=tuple(said if c.type == _DUPLICATE and c.status == "False" else c for c in rest),
            )
        taken_in = seen.declared.is_mirror or seen.declared.declaration == show.declared
        return status_of(
            summary,
            show.save,
            observed_generation=seen.generation if taken_in else None,
            before=seen.body.get("status"),
            now=self._clock(),
        )

    def _passed_over(self, seen: Seen, verdict: Verdict) -> Json:
        winner = verdict.winner.name if verdict.winner else "another"
        message = f"{winner} declares the same container and is older; delete one of the two"
        return self._without_effect(seen, SUPERSEDED, message, (_DUPLICATE,))

    def _astray(self, seen: Seen) -> Json:
        assert seen.declared is not None
        message = (
            f"with the label {ORIGIN_LABEL} it asks for nothing, and what shows this container is named "
            f"{seen.declared.identity.kubernetes_name}; take the label off, or delete it"
        )
        return self._without_effect(seen, SUPERSEDED, message)

    def _unreadable(self, seen: Seen) -> Json:
        error = seen.error
        assert error is not None
        message = f"{error.what}: {error.why}; {error.todo}. What it declared before, if anything, stays in force"
        return self._without_effect(seen, INVALID, message, (_STALLED,))

    def _without_effect(self, seen: Seen, reason: str, message: str, also: tuple[str, ...] = ()) -> Json:
        before, now = seen.body.get("status"), self._clock()
        return status_without_effect(
            reason, message, also=also, observed_generation=seen.generation, before=before, now=now
        )

    def _put_status(self, seen: Seen, status: Json) -> Millis | None:
        """Patch an object's status if it is another one; return when to try again if it can wait."""
        before = seen.body.get("status") or {}
        patch = merge_patch(before, status)
        if not patch:
            return None
        may_wait = moves_only_times(patch) or is_under_way(before, status)
        quiet_until = self._written.get(seen.name, -QUIET) + QUIET
        if may_wait and self._clock() < quiet_until:
            return quiet_until
        return self._patch(seen, {"status": patch}, status=True)

    def _patch(self, seen: Seen, patch: Json, *, status: bool) -> Millis | None:
        if self._refused.get(seen.name) == seen.version:
            return None
        try:
            body = self._api.patch(seen.name, patch, version=seen.version, status=status)
        except ApiError as error:
            if error.status in (404, 409):
                return self._look_at(seen)
            put_off = self._say_refused(error, "the status of" if status else "the mirror", seen.name)
            if put_off is None:
                self._refused[seen.name] = seen.version
            return put_off
        self._written[seen.name] = self._clock()
        self._take_in(body)
        return None

    def _look_at(self, seen: Seen) -> Millis:
        """See what became of an object that was changed or deleted meanwhile; the watch will tell, but later."""
        try:
            self._take_in(self._api.get(seen.name))
        except ApiError as error:
            if error.status != 404:
                raise
            container_id = self._objects.remove(seen.body)
            if container_id:
                self._look(container_id)
        return self._clock() + AGAIN

    def _take_in(self, body: Json) -> None:
        container_id = self._objects.put(body)
        if container_id:
            self._look(container_id)

    # Mirrors

    def _mirror(self, show: Show, mirror: Seen | None) -> tuple[Seen | None, Millis | None]:
        """Return the mirror, made or mended where that is needed, None if there is none; and when to try again."""
        identity = show.summary.identity if show.summary else None
        if not self._mirrors or not show.mirrored or identity is None:
            return None, self._remove(mirror) if mirror else None
        put_off = None
        if mirror is None:
            put_off = self._make(identity)
        else:
            patch = merge_patch(mirror.body.get("spec") or {}, mirror_of(identity, self._api.namespace)["spec"])
            if patch:
                put_off = self._patch(mirror, {"spec": patch}, status=False)
        return self._objects.of(show.container_id).mirror, put_off

    def _make(self, identity: ContainerIdentity) -> Millis | None:
        name = identity.kubernetes_name
        if name in self._refused:
            return None
        try:
            self._objects.put(self._api.create(mirror_of(identity, self._api.namespace)))
        except ApiError as error:
            if error.status == 409 and self._is_there(identity):
                return None
            put_off = self._say_refused(error, "the mirror", name)
            if put_off is None:
                self._refused[name] = 0
            return put_off
        return None

    def _is_there(self, identity: ContainerIdentity) -> bool:
        """Tell whether what has the mirror's name is the mirror, which the watch has not told of yet."""
        try:
            self._take_in(self._api.get(identity.kubernetes_name))
        except ApiError as error:
            if error.status != 404:
                raise
        return self._objects.of(identity.container_id).mirror is not None

    def _remove(self, seen: Seen) -> Millis | None:
        try:
            self._api.delete(seen.name, seen.uid)
        except ApiError as error:
            if error.status not in (404, 409):
                return self._say_refused(error, "the end of the mirror", seen.name)
        return None

    def _say_refused(self, error: ApiError, what: str, name: str) -> Millis | None:
        """Say, once for all objects, what the server does not take; raise what is no answer to this one request.

        Return when to try again; None: not before something has changed.
        """
        if error.status in (0, 401, 408, 429) or error.status >= 500:
            raise error
        kind = (what, error.status)
        if kind not in self._said:
            self._said.add(kind)
            message = f"{what} {name} is refused, HTTP {error.status}: {error}"
            telemetry.event("kubernetes", logging.WARNING, message=message)
        # A server that has just started knows no roles yet.
        return self._clock() + FORBIDDEN_FOR if error.status == 403 else None

    # Events

    def _post_events(self) -> bool:
        """Post some of the events; return whether there are more that could be."""
        waiting, kept, posted = self._events.take(), list[Event](), 0
        try:
            while waiting:
                event = waiting[0]
                verdict = self._objects.of(event.container_id)
                seen = verdict.winner or verdict.mirror
                if seen is None:
                    kept.append(event)
                elif posted == EVENTS_A_TURN:
                    return True
                else:
                    self._post(event, seen)
                    posted += 1
                del waiting[0]
            return False
        finally:
            self._events.put_back(kept + waiting)

    def _post(self, event: Event, seen: Seen) -> None:
        try:
            self._api.post_event(event.about(seen))
        except ApiError as error:
            self._say_refused(error, "an event of", seen.name)
