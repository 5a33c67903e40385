"""The requests to the local endpoint: counted, and where a scene wants it so, left without their reply."""

from __future__ import annotations

import threading
from collections import Counter

__all__ = ["Traffic"]

_READS = (
    "BatchGetItem",
    "DescribeClusters",
    "DescribeTable",
    "DescribeTaskDefinition",
    "DescribeTasks",
    "GetItem",
    "GetQueueAttributes",
    "ListClusters",
    "ListTagsForResource",
    "ListTaskDefinitions",
    "ListTasks",
    "Query",
    "Scan",
)
"""Operations that change nothing. What is not named here counts as a write …"""
_OF_HINTS = ("DeleteMessageBatch", "ReceiveMessage")
"""… but for how the controller is woken."""


class Traffic:
    """Every request to the endpoint, as it has taken effect and before its reply goes out; a reply can be held."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._to_hold = ""
        self._held = False

    def __call__(self, line: str) -> None:
        """Take in `POST ecs RunTask 200`; returns when the reply may go out."""
        operation = line.split()[2]
        with self._changed:
            self._counts[operation] += 1
            if operation == self._to_hold:
                self._held = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._to_hold)

    def hold(self, operation: str) -> None:
        """Hold back the replies of an operation from now on."""
        with self._changed:
            self._to_hold, self._held = operation, False

    @property
    def holds_a_reply(self) -> bool:
        """Whether a reply waits."""
        return self._held

    def let_go(self) -> None:
        """Send what was held, and hold nothing any more."""
        with self._changed:
            self._to_hold = ""
            self._changed.notify_all()

    def count(self, operation: str) -> int:
        """Return how often an operation was called."""
        with self._changed:
            return self._counts[operation]

    @property
    def writes(self) -> int:
        """How many requests were not mere reads."""
        with self._changed:
            return sum(n for operation, n in self._counts.items() if operation not in (*_READS, *_OF_HINTS))
