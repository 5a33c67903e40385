"""SQS: the queue of hints, and how much waits in a session's input queue.

The hint queue gets the stream records of sessions and containers tables (by EventBridge pipes) and the task events of
ECS (by an EventBridge rule). Of each only this is taken: which container, and which row or task to look at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from controller.aws.client import QUEUE_MISSING, SqsCalls, part, safe_url, translating
from controller.aws.rows import Item
from controller.core.identity import ENV_CONTAINER, MAX_KEY_BYTES
from controller.core.reads import Hint

WAIT_SECONDS = 10
"""How long a receive waits for messages; well below the time-out of a call, and below what makes hints stale."""
_ROUTINE = {"lastActivity"}
MAX_MESSAGES = 10
"""Messages in one receive and in one batch of deletions (SQS API reference)."""

_COUNTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Queues:
    """Looks into the sessions' input queues."""

    def __init__(self, client: SqsCalls, *, region: str = "") -> None:
        self._client = client
        self._region = region

    def depth(self, queue_url: str) -> int:
        """Return the messages that are visible, in flight or delayed: each is somebody's word that is still to be read.

        0 when there is no such queue, or the text is no queue's URL. Raises AwsError when it cannot be told.
        """
        if not queue_url.lower().startswith(("http://", "https://")):
            return 0
        with translating("GetQueueAttributes", queue=safe_url(queue_url), region=self._region):
            try:
                answer = self._client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=list(_COUNTS))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in QUEUE_MISSING:
                    return 0
                raise
            counts = part(answer, "Attributes")
        return sum(int(counts.get(name, 0)) for name in _COUNTS)


class HintQueue:
    """The queue of hints. What is no hint for us is deleted at once: it would only come again."""

    def __init__(self, client: SqsCalls, url: str, *, region: str = "") -> None:
        self._client = client
        self._url = url
        self._region = region

    def receive(self) -> Sequence[Hint]:
        """Wait up to WAIT_SECONDS for messages and return what they hint at. Raises AwsError."""
        with translating("ReceiveMessage", queue=safe_url(self._url), region=self._region):
            answer = self._client.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=MAX_MESSAGES, WaitTimeSeconds=WAIT_SECONDS
            )
        hints: list[Hint] = []
        useless: list[str] = []
        for message in answer.get("Messages", ()):
            receipt = str(message.get("ReceiptHandle", ""))
            found = [replace(h, receipts=frozenset({receipt})) for h in parse_hints(str(message.get("Body", "")))]
            hints += found
            if not found and receipt:
                useless.append(receipt)
        if useless:
            self.delete(useless)
        return hints

    def delete(self, receipts: Collection[str]) -> None:
        """Delete messages by their receipts; one whose receipt has expired comes again. Raises AwsError."""
        known = sorted(set(receipts))
        for start in range(0, len(known), MAX_MESSAGES):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt}
                for number, receipt in enumerate(known[start : start + MAX_MESSAGES])
            ]
            with translating("DeleteMessageBatch", queue=safe_url(self._url), region=self._region):
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def parse_hints(body: str) -> tuple[Hint, ...]:
    """Return what a message hints at: nothing when it is not ours, or cannot be read.

    A stream record hints at the container that its row names, and named before; a task event at that of its task.
    Sources: DynamoDB Streams API, Record; Amazon ECS Developer Guide, task state change events.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(message, Mapping):
        return ()
    if isinstance(message.get("dynamodb"), Mapping):
        found = _from_record(message["dynamodb"], is_change=message.get("eventName") == "MODIFY")
    elif message.get("source") == "aws.ecs":
        found = _from_event(_mapping(message.get("detail")))
    else:
        return ()
    return tuple(hint for hint in found if _is_key(hint.container_id))


def _from_record(record: Mapping[str, Any], *, is_change: bool) -> Iterator[Hint]:
    keys = _mapping(record.get("Keys"))
    session_id = _text(keys, "sessionId")
    sessions = frozenset({session_id}) if session_id and _is_key(session_id) else frozenset()
    new, old = (_mapping(record.get(name)) for name in ("NewImage", "OldImage"))
    changed = {name for name in {*new, *old} if new.get(name) != old.get(name)}
    routine = is_change and changed == _ROUTINE
    for container_id in sorted({c for c in (_text(row, "containerId") for row in (keys, new, old)) if c}):
        yield Hint(container_id, session_ids=sessions, routine=routine)


def _from_event(task: Mapping[str, Any]) -> Iterator[Hint]:
    arn = task.get("taskArn")
    for container in _list(_mapping(task.get("overrides")).get("containerOverrides")):
        for variable in _list(_mapping(container).get("environment")):
            pair = _mapping(variable)
            if pair.get("name") == ENV_CONTAINER and isinstance(pair.get("value"), str) and isinstance(arn, str):
                yield Hint(pair["value"], task_arns=frozenset({arn}))


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(row: Item, name: str) -> str | None:
    value = _mapping(row.get(name)).get("S")
    return value if isinstance(value, str) else None


def _is_key(text: str) -> bool:
    return 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_KEY_BYTES
