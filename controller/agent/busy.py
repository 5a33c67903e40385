"""`edit-agent busy -- COMMAND`: keep the container from counting as idle while a command runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from controller.agent.protocol import ENV_PORT, PATH_BUSY

ENV_URL = "EDIT_AGENT_URL"
TTL = 90
RENEW = 30.0
_TIMEOUT = 5.0


class Lease:
    """One busy lease, renewed until it is ended or refused."""

    def __init__(self, url: str, name: str, renew: float = RENEW) -> None:
        self._parts = urlsplit(url)
        self._name = name
        self._renew = renew
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def begin(self) -> str:
        """Take the lease and begin to renew it; return what went wrong, empty when nothing did."""
        trouble = self._send("POST", {"id": self._name, "seconds": TTL})
        self._thread.start()
        return trouble

    def end(self) -> None:
        """End the lease."""
        self._over.set()
        self._send("DELETE", {"id": self._name})

    def _keep(self) -> None:
        while not self._over.wait(self._renew):
            trouble = self._send("POST", {"id": self._name, "seconds": TTL})
            if trouble.startswith("409"):
                sys.stderr.write(f"edit-agent busy: the lease had its maximum: {trouble}\n")
                return

    def _send(self, method: str, body: Mapping[str, object]) -> str:
        connection = HTTPConnection(self._parts.hostname or "127.0.0.1", self._parts.port or 80, timeout=_TIMEOUT)
        try:
            connection.request(method, PATH_BUSY, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read(4096).decode(errors="replace")
            return "" if answer.status < 300 else f"{answer.status} {said}"
        except (OSError, HTTPException) as e:
            return str(e) or type(e).__name__
        finally:
            connection.close()


def busy(command: Sequence[str], environment: Mapping[str, str], name: str = "") -> int:
    """Run the command under a lease and return its exit status; it runs without one as well, which is said."""
    url = environment.get(ENV_URL) or f"http://127.0.0.1:{environment.get(ENV_PORT, '')}"
    lease = Lease(url, name or f"busy-{os.getpid()}-{time.time_ns()}")
    trouble = lease.begin() if urlsplit(url).port else "EDIT_AGENT_URL is not set"
    if trouble:
        sys.stderr.write(f"edit-agent busy: no lease, the command runs without one: {trouble}\n")
    try:
        code = _run(command)
    except OSError as e:
        sys.stderr.write(f"edit-agent busy: {command[0]}: {e.strerror}\n")
        code = 127 if isinstance(e, FileNotFoundError) else 126
    if not trouble:
        lease.end()
    return code


def _run(command: Sequence[str]) -> int:
    """Run the command, hand on to it what we are sent, and return its exit status. Raises OSError."""
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def hand_on(number: int, _: object) -> None:
        if running:
            running[0].send_signal(number)
        else:
            early.append(number)

    # Before it starts: a signal that came in between would end us and leave it alone.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, hand_on)
    with subprocess.Popen(command) as process:
        running.append(process)
        for each in early:
            process.send_signal(each)
        code = process.wait()
    return code if code >= 0 else 128 - code
