"""The engines that stand in for AWS, each reached over HTTP by boto3, and how ministack is started and ended."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import boto3
import pytest
from botocore.config import Config

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-ministack" / "bin" / "python"
MISSING = "ministack is not installed here: `make ministack` makes its environment in a few seconds"
# Read when tests are collected: each test then runs in an environment without it.
IN_CI = bool(os.environ.get("CI"))

HOST = "127.0.0.1"
HEALTH_PATH = "/_ministack/health"
START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
STARTS = 3
POLL = 0.05

# Whoever started it holds the other end of its standard input: when that ends, however it ends, so does ministack.
_WATCHED = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
from ministack.app import main
main()
"""

# ministack and moto keep what belongs to each account apart, so an account of its own is an empty AWS.
_ACCOUNTS = itertools.count(200_000_000_000)


@dataclass(frozen=True, slots=True)
class Engine:
    """An empty AWS in one account. `pass_time` moves its clock by seconds, where it has one that can be moved."""

    name: str
    url: str
    account: str
    subnet: str = "subnet-1"
    pass_time: Callable[[float], None] = lambda seconds: None

    def client(self, service: str, *, connections: int = 10) -> Any:
        """Return boto3's client. It tries once and sends what it is given, so that the engine answers for itself."""
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=False, max_pool_connections=connections)
        client = _session().client(
            service, endpoint_url=self.url, config=config, aws_access_key_id=self.account, aws_secret_access_key="x"
        )
        # moto's own way to name the account; ministack takes a key of 12 digits for it.
        client.meta.events.register("before-sign", self._name_account)
        return client

    def _name_account(self, request: Any, **_: Any) -> None:
        request.headers["x-moto-account-id"] = self.account


def missing(*, in_ci: bool) -> NoReturn:
    """Skip what needs ministack on a person's machine, fail it in CI."""
    if in_ci:
        pytest.fail(f"in CI no engine may be missing: {MISSING}", pytrace=False)
    pytest.skip(MISSING)


def new_account() -> str:
    """Return an account that nobody in this process has."""
    return str(next(_ACCOUNTS))


@cache
def _session() -> Any:
    """Return one session for all clients: it has read the service models."""
    return boto3.Session(region_name="eu-west-1")


class Ministack:
    """A ministack of this process on a port of loopback. Nothing of it outlives this process.

    With the socket of a container engine its tasks are containers, which outlive it.
    """

    def __init__(self, folder: Path, docker: Path | None = None) -> None:
        self._folder = folder
        # Without Docker behind it its tasks are rows, whatever runs on this machine.
        self._docker = docker or folder / "nobody"
        for _ in range(STARTS):
            self.port = _free_port()
            # It says this in its health: another one on the same port does not.
            name = secrets.token_hex(8)
            self._process = self._start(name)
            if self._answers(name):
                return
            self.close()
        raise RuntimeError(f"ministack did not start {STARTS} times:\n{self.log()}")

    @property
    def url(self) -> str:
        """The URL for AWS_ENDPOINT_URL."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def engine(self) -> Engine:
        """Return an account in which there is nothing yet."""
        return Engine("ministack", self.url, new_account())

    def log(self) -> str:
        """Return the end of what it wrote."""
        path = self._folder / "ministack.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def close(self) -> None:
        """End it, by its process id."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                self._process.wait(STOP_TIMEOUT)
                return
            except subprocess.TimeoutExpired:
                continue

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        kept = {key: os.environ[key] for key in ("LD_LIBRARY_PATH", "PATH") if key in os.environ}
        environment = {
            **kept,
            "BIND_HOST": HOST,
            "DOCKER_HOST": f"unix://{self._docker}",
            "GATEWAY_PORT": str(self.port),
            "HOME": str(self._folder),
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "MINISTACK_EDITION": name,
            "SFTP_ENABLED": "0",
            "TMPDIR": str(self._folder),
        }
        with (self._folder / "ministack.log").open("ab") as log:
            return subprocess.Popen(
                [str(PYTHON), "-c", _WATCHED],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for pytest, which then ends it.
                start_new_session=True,
            )

    def _answers(self, name: str) -> bool:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                self._process.wait(POLL)
                return False
            except subprocess.TimeoutExpired:
                pass
            if self._health().get("edition") == name:
                return True
        return False

    def _health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(self.url + HEALTH_PATH, timeout=2) as reply:
                health: dict[str, Any] = json.load(reply)
                return health
        except (OSError, ValueError):
            return {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
