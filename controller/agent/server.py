"""The agent's HTTP server: on the container's private address for the controller, on loopback for the workload.

Both listeners take a bounded number of connections, a bounded request, and give a connection a bounded time in all,
since the workload and anything in the network can reach them.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from controller.agent import protocol
from controller.agent.activity import LeaseRefused
from controller.agent.control import Control, WrongTask
from controller.errors import EditctlError, ProtocolError

CONNECTIONS = 16
"""At once, for each listener."""
CONNECTION_SECONDS = 10.0
READ_SECONDS = 5.0
LEASE_NAME = 200
LOOPBACK = "127.0.0.1"

Answer = tuple[HTTPStatus, Mapping[str, Any]]
Route = Callable[[Control, dict[str, Any]], Answer]


# For the controller


def _status(control: Control, _: dict[str, Any]) -> Answer:
    return HTTPStatus.OK, control.status().to_json()


def _drain(control: Control, body: dict[str, Any]) -> Answer:
    _check(control, body)
    control.drain(protocol.message_id(body, "id"))
    return _status(control, body)


def _cancel(control: Control, body: dict[str, Any]) -> Answer:
    _check(control, body)
    control.cancel(protocol.message_id(body, "id"))
    return _status(control, body)


def _keepalive(control: Control, body: dict[str, Any]) -> Answer:
    _check(control, body)
    control.keepalive(protocol.message_id(body, "cancelledUpTo"))
    return _status(control, body)


def _set_sessions(control: Control, body: dict[str, Any]) -> Answer:
    _check(control, body)
    control.set_sessions(protocol.sessions_from_json(body.get("sessions")))
    return _status(control, body)


def _check(control: Control, body: dict[str, Any]) -> None:
    arn, generation = body.get("taskArn"), body.get("generation")
    if not isinstance(arn, str) or not (generation is None or type(generation) is int):
        raise ProtocolError("the message does not say which task it is for", "taskArn and generation are required")
    control.check(arn, generation)


# For the workload


def _busy(control: Control, body: dict[str, Any]) -> Answer:
    seconds = body.get("seconds", 60)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < 1e9:
        raise ProtocolError("seconds is not a number from 0 up")
    return HTTPStatus.OK, {"validFor": round(control.take_lease(_lease_name(body), float(seconds)), 3)}


def _end_busy(control: Control, body: dict[str, Any]) -> Answer:
    control.end_lease(_lease_name(body))
    return HTTPStatus.OK, {}


def _lease_name(body: dict[str, Any]) -> str:
    name = body.get("id", "default")
    if not isinstance(name, str) or not 0 < len(name) <= LEASE_NAME:
        raise ProtocolError(f"id is not a text of 1 to {LEASE_NAME} characters")
    return name


def _get_sessions(control: Control, _: dict[str, Any]) -> Answer:
    return HTTPStatus.OK, {"sessions": protocol.sessions_to_json(control.sessions())}


FOR_CONTROLLER: Mapping[tuple[str, str], Route] = {
    ("GET", protocol.PATH_STATUS): _status,
    ("POST", protocol.PATH_DRAIN): _drain,
    ("DELETE", protocol.PATH_DRAIN): _cancel,
    ("POST", protocol.PATH_KEEPALIVE): _keepalive,
    ("PUT", protocol.PATH_SESSIONS): _set_sessions,
}
FOR_WORKLOAD: Mapping[tuple[str, str], Route] = {
    ("POST", protocol.PATH_BUSY): _busy,
    ("DELETE", protocol.PATH_BUSY): _end_busy,
    ("GET", protocol.PATH_SESSIONS): _get_sessions,
}


class Listener(HTTPServer):
    """One address. `local` serves the workload's paths, without a token; the controller's paths need it everywhere."""

    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], control: Control, token_sha256: str, *, local: bool) -> None:
        self.control = control
        self.token_sha256 = token_sha256
        self.local = local
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._open: dict[socket.socket, float] = {}
        self._open_lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking the name service who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.socket.getsockname()[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, or drop it when there are too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._open_lock:
            self._open[request] = time.monotonic() + CONNECTION_SECONDS
        threading.Thread(target=self._in_thread, args=(request, client_address), daemon=True).start()

    def _in_thread(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except (OSError, ValueError):
            pass  # the other side is gone; there is nobody to tell
        finally:
            with self._open_lock:
                self._open.pop(request, None)
            self.shutdown_request(request)
            self._slots.release()

    def service_actions(self) -> None:
        """End connections that had their time, however busily they send a byte now and then."""
        now = time.monotonic()
        with self._open_lock:
            late = [each for each, until in self._open.items() if until < now]
        for each in late:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer."""

    server: Listener
    timeout = READ_SECONDS
    server_version = "edit-agent"
    sys_version = ""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a request line is what anybody may write."""

    def _serve(self) -> None:
        try:
            status, body = self._answer()
        except WrongTask as e:
            status, body = HTTPStatus.CONFLICT, self._status_with(e)
        except LeaseRefused as e:
            status, body = HTTPStatus.CONFLICT, {"error": str(e)}
        except EditctlError as e:
            status, body = HTTPStatus.BAD_REQUEST, {"error": str(e)}
        self._send(status, body)

    def _answer(self) -> Answer:
        key = (self.command, self.path)
        if self.server.local and key in FOR_WORKLOAD and "Authorization" not in self.headers:
            if refusal := self._not_from_here():
                return refusal
            return FOR_WORKLOAD[key](self.server.control, self._body())
        route = FOR_CONTROLLER.get(key)
        if route is None:
            return HTTPStatus.NOT_FOUND, {"error": "there is no such path here"}
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or not protocol.token_matches(token, self.server.token_sha256):
            return HTTPStatus.UNAUTHORIZED, {"error": "the token is not this container's"}
        self.server.control.heard()
        return route(self.server.control, self._body())

    def _not_from_here(self) -> Answer | None:
        """Refuse what a web page in the workload's browser could send: another name, or a form."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (LOOPBACK, "localhost", self.server.server_address[0]):
            return HTTPStatus.FORBIDDEN, {"error": "ask for 127.0.0.1"}
        if self.command != "GET" and self.headers.get("Content-Type") != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "send application/json"}
        return None

    def _body(self) -> dict[str, Any]:
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit() or "Transfer-Encoding" in self.headers:
            raise ProtocolError("the request does not say how long it is", "Content-Length is required")
        if int(text) > protocol.MAX_REQUEST_BYTES:
            raise ProtocolError(f"the request is longer than {protocol.MAX_REQUEST_BYTES} bytes")
        data = self.rfile.read(int(text))
        if len(data) < int(text):
            raise ProtocolError("the request ended early")
        return protocol.parse(data) if data else {}

    def _status_with(self, e: EditctlError) -> dict[str, Any]:
        return {**self.server.control.status().to_json(), "error": str(e)}

    def _send(self, status: HTTPStatus, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server:
    """The listeners of one agent. Addresses may be added as they become known."""

    def __init__(self, control: Control, token_sha256: str) -> None:
        self._control = control
        self._token_sha256 = token_sha256
        self._listeners: list[Listener] = []

    def listen(self, host: str, port: int, *, local: bool) -> int:
        """Listen on an address and return the port. Raises OSError."""
        listener = Listener((host, port), self._control, self._token_sha256, local=local)
        self._listeners.append(listener)
        threading.Thread(target=listener.serve_forever, args=(0.2,), daemon=True).start()
        return listener.port

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners:
            listener.shutdown()
            listener.server_close()
        self._listeners.clear()
