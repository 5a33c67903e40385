"""One HTTP endpoint on loopback: the strict ECS, and beside it DynamoDB, DynamoDB Streams, SQS and STS.

Only signed POST requests are served, and nothing answers a browser's preflight, so a web page that a user visits
cannot start tasks here.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import itertools
import json
import logging
import platform
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from controller.errors import PortInUse
from controller.local.ecs import StrictEcs, TaskObserver, Timings
from controller.local.pipes import Pipe
from controller.local.services import MOTO_SERVICES, MotoServices, new_account
from controller.local.wire import Reply, Request, answer_ecs, refusal, signed_service

__all__ = ["HEALTH_PATH", "LocalEndpoint", "system_clock"]

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
POLL = 0.02  # seconds between two looks whether to end
HEALTH_PATH = "/_editctl/health"


def system_clock() -> int:
    """Return the time of this machine in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class LocalEndpoint:
    """An endpoint that listens from its construction on and answers from `start` or `serve_forever` on.

    `port` 0 takes a free one. `clock` (epoch milliseconds) and `timings` are the ECS's; moto's services run on the
    machine's time. `observer` runs the tasks' containers. `pipe` names a queue that gets what
    changes. `on_request` gets one line a request, outside of any lock.
    """

    def __init__(
        self,
        port: int = 0,
        clock: Callable[[], int] = system_clock,
        timings: Timings | None = None,
        *,
        observer: TaskObserver | None = None,
        pipe: Pipe | None = None,
        region: str = "us-east-1",
        on_request: Callable[[str], None] | None = None,
    ) -> None:
        self.account = new_account()
        self.region = region
        self.pipe = pipe
        self._services = MotoServices(self.account, region, pipe)
        self.ecs = StrictEcs(
            clock,
            timings=timings,
            observer=observer,
            on_event=self._services.announce if pipe else None,
            account=self.account,
            region=region,
        )
        self._clock = clock
        self._closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="editctl-local-events", daemon=True)
        self._on_request = on_request or (lambda line: None)
        self._numbers = itertools.count(1)
        self._thread: threading.Thread | None = None
        self._serving: threading.Thread | None = None
        self._server = _listen(port, self._answer)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The URL for AWS_ENDPOINT_URL."""
        return f"http://{HOST}:{self.port}"

    @property
    def hint_queue_url(self) -> str | None:
        """The URL of the pipe's queue."""
        return f"{self.url}/{self.account}/{self.pipe.queue}" if self.pipe else None

    def start(self) -> LocalEndpoint:
        """Answer in a thread of its own; return at once, since it listens already."""
        self._thread = threading.Thread(target=self.serve_forever, name=f"editctl-local-{self.port}", daemon=True)
        self._thread.start()
        return self

    def serve_forever(self) -> None:
        """Answer in this thread until another one calls `close`; a KeyboardInterrupt ends it and is passed on."""
        self._serving = threading.current_thread()
        if self.pipe:
            self._ticker.start()
        self._server.serve_forever(poll_interval=POLL)

    def _tick(self) -> None:
        """Let tasks go on when nobody asks after them, so that their events come in time."""
        while not self._closing.wait(POLL):
            due = self.ecs.next_change()
            if due is not None and due <= self._clock():
                self.ecs.settle()

    def warm_up(self) -> None:
        """Load what the first DynamoDB or SQS request would load, about two seconds."""
        self._services.warm_up()

    def close(self) -> None:
        """Stop listening, drop all connections and all data. May be called again."""
        self._closing.set()
        # Whoever is here has left `serve_forever`, or was interrupted before it: shutting down would wait for ever.
        if self._thread is not None or self._serving not in (None, threading.current_thread()):
            self._server.shutdown()
        if self._ticker.is_alive():
            self._ticker.join()
        if self._thread is not None:
            self._thread.join()
        self._server.close_everything()
        self._services.close()

    def __enter__(self) -> LocalEndpoint:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def health(self) -> dict[str, Any]:
        """Return what `GET /_editctl/health` says: versions, and how many tasks are in which state."""
        return {
            "status": "ok",
            "account": self.account,
            "region": self.region,
            "tasks": {status.value: count for status, count in sorted(self.ecs.states().items())},
            "versions": {"moto": importlib.metadata.version("moto"), "python": platform.python_version()},
        }

    def _answer(self, request: Request) -> Reply:
        try:
            reply = self._route(request)
        except Exception as error:
            logger.exception("%s failed", _what(request))
            reply = refusal(request, 500, "InternalFailure", f"{type(error).__name__}: {error}")
        self._on_request(f"{request.method} {_what(request)} {reply.status}")
        headers = {
            **reply.headers,
            "Date": formatdate(self._clock() / 1000, usegmt=True),
            "x-amzn-RequestId": f"00000000-0000-4000-8000-{next(self._numbers):012x}",
        }
        return Reply(reply.status, reply.body, headers)

    def _route(self, request: Request) -> Reply:
        if request.method == "GET" and request.path == HEALTH_PATH:
            return Reply(200, json.dumps(self.health()).encode(), {"Content-Type": "application/json"})
        service = signed_service(request)
        if service is None:
            return refusal(
                request, 403, "MissingAuthenticationTokenException", "Request is missing Authentication Token"
            )
        if request.method == "POST" and service == "ecs":
            return answer_ecs(self.ecs, request)
        if request.method == "POST" and service in MOTO_SERVICES:
            return self._services.answer(request)
        known = ", ".join(sorted({"ecs", *MOTO_SERVICES}))
        return refusal(request, 400, "UnsupportedService", f"This local endpoint has no {service}; it has {known}.")


class _Server(ThreadingHTTPServer):
    """A threading server that knows its open connections, so that closing it closes them too."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it would look up a name for the address, which takes seconds on some machines.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._connections_lock:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # `answer` raises nothing, so this is a client that went away.
        logger.debug("connection from %s broke", client_address, exc_info=True)

    def close_everything(self) -> None:
        """Close the listening socket and every connection; their threads end by themselves."""
        self.server_close()
        with self._connections_lock:
            for connection in self._connections:
                _hang_up(connection)


class _Handler(BaseHTTPRequestHandler):
    """Turns HTTP into `Request` and `Reply`, with connections kept between requests."""

    protocol_version = "HTTP/1.1"
    server: _Server
    # One packet for each reply: headers and body apart would meet the delayed acknowledgement of the other side.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            # The caller was killed while it sent; half a request is none.
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.answer(Request(self.command, self.path, headers, body))
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `on_request` is the log."""


def _listen(port: int, answer: Callable[[Request], Reply]) -> _Server:
    try:
        return _Server(port, answer)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = "another program listens there" if error.errno == errno.EADDRINUSE else "the system does not allow it"
        raise PortInUse(
            f"cannot listen on {HOST}:{port}", why, "choose another port, or 0 for any free one, or stop that program"
        ) from error


def _what(request: Request) -> str:
    interface, operation = request.target
    return f"{signed_service(request) or 'unsigned'} {operation or interface or request.path}"


def _hang_up(connection: socket.socket) -> None:
    # Its thread or its client may have closed it already.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
