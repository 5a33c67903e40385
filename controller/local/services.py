"""DynamoDB, DynamoDB Streams, SQS and STS, by moto, behind one lock.

moto is loaded by the first request that needs it, since that takes seconds. It is not safe for threads: compare-and-set
and transactions come out wrong without the lock. It keeps its data by account, so each instance has an account of its
own and begins empty; `moto.mock_aws` in the same process would wipe it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from controller.local.pipes import Pipe, StreamReader, message
from controller.local.wire import Reply, Request, signed_service

__all__ = ["MOTO_SERVICES", "MotoServices", "new_account"]

MOTO_SERVICES = frozenset({"dynamodb", "sqs", "sts"})

# Seconds between two looks into a queue that a caller waits for.
QUEUE_LOOK = 0.05
# APIReference ReceiveMessage: WaitTimeSeconds is 0 to 20.
LONGEST_WAIT = 20

_WRITES = frozenset({"BatchWriteItem", "DeleteItem", "PutItem", "TransactWriteItems", "UpdateItem"})

_LOCK = threading.Lock()
_ACCOUNTS = itertools.count(123456789012)
_HOP_BY_HOP = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})


_WARM_UP = Request(
    "POST",
    "/",
    {
        "authorization": "AWS4-HMAC-SHA256 Credential=none/20000101/us-east-1/dynamodb/aws4_request",
        "content-type": "application/x-amz-json-1.0",
        "x-amz-target": "DynamoDB_20120810.ListTables",
    },
    b"{}",
)


def new_account() -> str:
    """Return an account id that nobody in this process has."""
    return str(next(_ACCOUNTS))


class MotoServices:
    """moto's services for one account."""

    def __init__(self, account: str, region: str = "us-east-1", pipe: Pipe | None = None) -> None:
        self._account = account
        self._region = region
        self._pipe = pipe
        self._streams = StreamReader()
        self._app: Callable[..., Iterable[bytes]] | None = None
        self._asked: set[str] = set()
        self._closing = threading.Event()

    def warm_up(self) -> None:
        """Load moto and its DynamoDB now."""
        self.answer(_WARM_UP)

    def answer(self, request: Request) -> Reply:
        """Return the reply to a request for one of `MOTO_SERVICES`."""
        if request.target == ("AmazonSQS", "ReceiveMessage"):
            return self._receive(request)
        return self._ask(request)

    def close(self) -> None:
        """Drop the data of this account."""
        self._closing.set()
        with _LOCK:
            self._app = None
            for service in self._asked:
                _forget(service, self._account)
            self._asked.clear()

    def _receive(self, request: Request) -> Reply:
        """Wait for messages here: moto would wait with the lock held, and nobody could send one."""
        params: dict[str, Any] = json.loads(request.body or b"{}")
        wait = params.get("WaitTimeSeconds", 0)
        if not isinstance(wait, int) or not 0 <= wait <= LONGEST_WAIT:
            return self._ask(request)
        look = replace(request, body=json.dumps({**params, "WaitTimeSeconds": 0}).encode())
        until = time.monotonic() + wait
        while True:
            reply = self._ask(look)
            over = reply.status != 200 or b'"Messages"' in reply.body or time.monotonic() >= until
            if over or self._closing.wait(QUEUE_LOOK):
                return reply

    def _ask(self, request: Request) -> Reply:
        with _LOCK:
            service = signed_service(request) or ""
            self._asked.add(service)
            reply = _through_wsgi(self._load(), self._environ(request))
            if self._pipe is not None and service == "dynamodb" and request.target[1] in _WRITES:
                self._pipe_streams(self._pipe)
            return reply

    def announce(self, event: Mapping[str, Any]) -> None:
        """Put an event of another service into the pipe's queue."""
        with _LOCK:
            if self._pipe is not None and not self._closing.is_set():
                self._load()
                self._send(self._pipe, message(event))

    def _pipe_streams(self, pipe: Pipe) -> None:
        from moto.backends import get_backend

        for record in self._streams.news(get_backend("dynamodb")[self._account]):
            if pipe.takes(record):
                self._send(pipe, message(record))

    def _send(self, pipe: Pipe, body: str) -> None:
        from moto.sqs.exceptions import QueueDoesNotExist

        # A pipe whose queue is gone has nowhere to put it: that is how hints are lost.
        with contextlib.suppress(QueueDoesNotExist):
            self._queues().send_message(pipe.queue, body)

    def _queues(self) -> Any:
        from moto.backends import get_backend

        self._asked.add("sqs")
        return get_backend("sqs")[self._account][self._region]

    def _load(self) -> Callable[..., Iterable[bytes]]:
        if self._app is None:
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

            _learn_regions()
            self._app = DomainDispatcherApplication(create_backend_app)
            if self._pipe is not None:
                self._queues().create_queue(self._pipe.queue, VisibilityTimeout=self._pipe.comes_again_after)
        return self._app

    def _environ(self, request: Request) -> dict[str, Any]:
        from werkzeug.test import EnvironBuilder

        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        headers["x-moto-account-id"] = self._account
        return EnvironBuilder(
            path=request.path,
            method=request.method,
            headers=list(headers.items()),
            data=request.body,
            base_url=f"http://{headers.get('host', '127.0.0.1')}",
        ).get_environ()


def _through_wsgi(app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> Reply:
    from werkzeug.test import run_wsgi_app

    body, status, headers = run_wsgi_app(app, environ, buffered=True)
    kept = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
    return Reply(int(status.split()[0]), b"".join(body), kept)


def _learn_regions() -> None:
    """Let moto ask the SDK once for the regions that there are.

    The SDK would refuse if AWS_PROFILE named a profile that does not exist, and no profile is of any use here.
    """
    from moto.core.base_backend import AccountSpecificBackend

    kept = {name: os.environ.pop(name) for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE") if name in os.environ}
    try:
        AccountSpecificBackend.get_session()
    finally:
        os.environ.update(kept)


def _forget(service: str, account: str) -> None:
    from moto.backends import get_backend

    backends = get_backend(service)  # type: ignore[call-overload]
    if account in backends:
        backends[account].reset()
        del backends[account]
