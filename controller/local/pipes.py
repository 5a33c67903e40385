"""What EventBridge does for the hint queue: stream records of tables and task events of ECS become messages in it.

As on AWS, a message may come late and nobody waits for it. Unlike there, none comes twice or out of order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Pipe", "StreamReader"]

Record = Mapping[str, Any]
"""A stream record as DynamoDB Streams has it: eventName, and in `dynamodb` the keys and images."""


def _all(record: Record) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Pipe:
    """The queue that gets them, and which stream records do; every task that runs or has stopped does."""

    queue: str
    takes: Callable[[Record], bool] = _all
    comes_again_after: int = 60
    """Seconds; what was received and not deleted by then is there again."""


class StreamReader:
    """Reads what is new in the streams of moto's tables. Only under the lock of moto's services."""

    def __init__(self) -> None:
        self._read: dict[int, int] = {}

    def news(self, backends: Mapping[str, Any]) -> list[Record]:
        """Return the records since the last time, in the order of their tables."""
        found: list[Record] = []
        seen: dict[int, int] = {}
        for backend in backends.values():
            for table in backend.tables.values():
                shard = table.stream_shard
                if shard is not None:
                    items = shard.items
                    found += [item.to_json() for item in items[self._read.get(id(shard), 0) :]]
                    seen[id(shard)] = len(items)
        self._read = seen
        return found


def message(content: Mapping[str, Any]) -> str:
    """Return a record or an event as the body of a message."""
    return json.dumps(content, default=str)
