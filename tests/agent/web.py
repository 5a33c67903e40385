"""A git remote over HTTP that wants a password, and a decoy that hopes to be sent one."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.agent.world import Container

CANARY = f"canary-5f1c0e7b9a-{os.getpid()}"
"""Of this process alone: other workers have theirs in the arguments of their helpers at the same time."""
"""The password of these tests, to be found nowhere."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle is what some tests are about."""


class Web:
    """Serves repositories below a directory to whoever has the password."""

    def __init__(self, root: Path, password: str, user: str = "x-access-token") -> None:
        self.root = root
        self.user = user
        self.password = password
        self.redirect = ""
        self.working = 0
        """Requests that are being served."""
        self._count = threading.Lock()
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and Authorization header of every request."""
        web = self

        class Handler(_Handler):
            owner = web

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        """The address in front of a repository's name."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def count(self, change: int) -> None:
        """Note that a request began or ended."""
        with self._count:
            self.working += change

    def accepts(self, authorization: str) -> bool:
        """Tell whether that is the user and the password."""
        pair = f"{self.user}:{self.password}".encode()
        return authorization == "Basic " + base64.b64encode(pair).decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Web

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def _serve(self) -> None:
        owner = self.owner
        authorization = self.headers.get("Authorization", "")
        owner.requests.append((self.command, self.path, authorization))
        owner.count(1)
        try:
            self._serve_counted(authorization)
        finally:
            owner.count(-1)

    def _serve_counted(self, authorization: str) -> None:
        owner = self.owner
        body = self._body()
        if owner.redirect:
            self._answer(302, b"", {"Location": owner.redirect + self.path})
        elif not owner.accepts(authorization):
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
        else:
            self._backend(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_PROJECT_ROOT": str(self.owner.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "REMOTE_USER": self.owner.user,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._answer(int(headers.pop("Status", "200").split()[0]), content, headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def use(container: Container, web: Web, command: str) -> None:
    """Point the container's agent at the server."""
    container.environment |= {"EDIT_REMOTE": f"{web.address}/remote.git", "EDIT_CREDENTIAL_COMMAND": command}


def places_with(secret: str, *roots: Path) -> list[str]:
    """Return every file below that holds the secret, plain or in Base64."""
    needles = [secret.encode(), *(base64.b64encode(b"x" * n + secret.encode())[4:-4] for n in range(3))]
    return [
        str(path)
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and any(n in path.read_bytes() for n in needles)
    ]


class Watcher:
    """Looks at the arguments and the environment of all processes, as often as it can."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.looks = 0
        self.seen: set[str] = set()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.looks += 1
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    self._check(folder)

    def _check(self, folder: Path) -> None:
        try:
            arguments = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            return
        if self._secret in arguments:
            self.seen.add("arguments of " + arguments.replace(b"\0", b" ").decode(errors="replace"))
        if self._secret in environment:
            self.seen.add("environment of " + arguments.replace(b"\0", b" ").decode(errors="replace"))
