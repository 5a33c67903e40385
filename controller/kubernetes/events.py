"""What was done, as events of Kubernetes: for `kubectl describe`, and for who watches the namespace.

An event that is told again within minutes is counted, not posted: a container that fails to start all night must not
fill etcd. What cannot be posted is dropped; the log has it.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from controller.core.model import MINUTE, ActionKind, Millis, Outcome, OutcomeStatus
from controller.kubernetes.objects import Seen
from controller.kubernetes.resource import API_VERSION, KIND, Json, stamp

COMPONENT = "editctl"
AGAIN_AFTER: Millis = 10 * MINUTE
"""What is told again sooner, but for its numbers, is counted."""
WAITS: Millis = MINUTE
"""How long an event waits for the object that it is about: a mirror is made a moment after the start that it shows."""
MOST_KEPT = 200
"""Beyond that the oldest are dropped."""
_LONGEST_MESSAGE = 1_024
_VARIES = re.compile(r"\b[0-9a-f]{6,}\b|\d+(?:\.\d+)?")

_Key = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Told:
    """An event that was posted, and how often it came again since."""

    at: Millis
    again: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One event that waits to be posted."""

    outcome: Outcome
    at: Millis
    first_at: Millis
    count: int
    number: int

    @property
    def container_id(self) -> str:
        return self.outcome.action.container_id

    def about(self, seen: Seen) -> Json:
        """Return it as the API server takes it."""
        metadata, action = seen.body["metadata"], self.outcome.action
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "namespace": metadata["namespace"],
                "name": f"{seen.name[:200]}.{self.at:x}.{self.number:x}",
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": metadata["namespace"],
                "name": seen.name,
                "uid": seen.uid,
            },
            "type": "Warning" if self.outcome.status is OutcomeStatus.FAILED else "Normal",
            "reason": action.reason.value,
            "message": f"{action.kind.value}: {self.outcome.message}"[:_LONGEST_MESSAGE],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": os.environ.get("HOSTNAME", COMPONENT),
            "firstTimestamp": stamp(self.first_at),
            "lastTimestamp": stamp(self.at),
            "count": self.count,
        }


class Events:
    """The events that wait. Thread-safe: rounds put in, the publisher takes out."""

    def __init__(self, clock: Callable[[], Millis]) -> None:
        self._clock = clock
        self._told: dict[_Key, _Told] = {}
        self._waiting: deque[Event] = deque(maxlen=MOST_KEPT)
        self._numbers = 0
        self._lock = threading.Lock()

    def tell(self, outcome: Outcome) -> bool:
        """Take in what an action came to; return whether that is to be posted."""
        action = outcome.action
        if outcome.status is OutcomeStatus.SKIPPED or action.kind is ActionKind.RECORD:
            return False
        now, alike = self._clock(), _VARIES.sub("#", outcome.message)
        key = (action.container_id, action.kind.value, action.reason.value, outcome.status.value, alike)
        with self._lock:
            before = self._told.get(key)
            if before and now < before.at + AGAIN_AFTER:
                before.again += 1
                return False
            again, first_at = (before.again, before.at) if before and before.again else (0, now)
            self._told[key] = _Told(now)
            self._numbers += 1
            self._waiting.append(Event(outcome, now, first_at, again + 1, self._numbers))
            return True

    def take(self) -> list[Event]:
        """Return those that wait, the oldest first, and forget them."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            return waiting

    def put_back(self, events: list[Event]) -> None:
        """Take in again what was not posted, unless it has waited for long enough; they are older than what is here."""
        now = self._clock()
        with self._lock:
            kept = [e for e in events if now < e.at + WAITS]
            self._waiting = deque([*kept, *self._waiting], maxlen=MOST_KEPT)

    def tidy(self) -> None:
        """Forget what was told so long ago that it is news again."""
        now = self._clock()
        with self._lock:
            # Twice the time: one that was counted is to say so when it comes again.
            self._told = {key: told for key, told in self._told.items() if now < told.at + 2 * AGAIN_AFTER}
