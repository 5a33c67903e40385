"""What holds for every test: a clean environment, no network beyond this machine, time limits, Hypothesis profiles."""

from __future__ import annotations

import io
import ipaddress
import logging
import os
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import SocketBlockedError

from controller import telemetry
from tests.fakes.clock import FakeClock

# Folders whose tests may take longer than the limit in pyproject.toml, in seconds. A test's own timeout mark wins.
TIME_LIMITS = {
    "adapters": 60,
    "agent": 60,
    "bench": 300,
    "cli": 60,
    "contract": 60,
    "faults": 120,
    "kubernetes": 120,
    "local": 60,
    "properties": 120,
    "scenarios": 60,
}

# Variables that would change what a test sees. Tests that need one set it themselves.
UNWANTED = (
    "ALL_PROXY",
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "FORCE_COLOR",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KUBECONFIG",
    "LINES",
    "NO_COLOR",
    "NO_PROXY",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
)
UNWANTED_PREFIXES = ("AWS_", "BOTO_", "ECS_", "EDIT_", "EDITCTL_", "GIT_", "KUBERNETES_", "XDG_")
WANTED = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REGION": "eu-west-1",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "COLUMNS": "120",
    "LC_ALL": "C.UTF-8",
    "TERM": "xterm-256color",
    "TZ": "UTC",
}

# A run in the background, or under nohup, ignores these, and so would every program that a test starts and signals.
for _number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile("quick", settings.get_profile("default"), max_examples=20)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
# The same examples every time: a red run is the change's doing. People search with fresh ones.
settings.register_profile(
    "ci", settings.get_profile("default"), derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test the time limit of its folder."""
    tests = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        if folder in TIME_LIMITS and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIME_LIMITS[folder]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, each reason once: somebody who misses a tool should know how to get it."""
    skipped = (report.longrepr for report in terminalreporter.stats.get("skipped", ()))
    reasons = Counter(str(where[2]).removeprefix("Skipped: ") for where in skipped if isinstance(where, (list, tuple)))
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} skipped: {reason}")


@pytest.fixture(scope="session", autouse=True)
def clean_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the process an environment of its own, for fixtures that outlive one test too; return its empty HOME."""
    home = tmp_path_factory.mktemp("home")
    kept = dict(os.environ)
    for name in kept:
        if name.upper() in UNWANTED or name.upper().startswith(UNWANTED_PREFIXES):
            del os.environ[name]
    os.environ.update(WANTED, HOME=str(home))
    time.tzset()
    yield home
    _set_environment(kept)


@pytest.fixture(autouse=True)
def clean_environment(clean_process: Path) -> Iterator[None]:
    """Take back whatever a test does to the environment or leaves in its HOME."""
    before = dict(os.environ)
    yield
    if dict(os.environ) != before:
        _set_environment(before)
    for left in clean_process.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _set_environment(wanted: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(wanted)
    time.tzset()


@pytest.fixture(scope="session", autouse=True)
def only_local_names() -> Iterator[None]:
    """Refuse to look up names of other machines, so that a forgotten endpoint fails at once and says why.

    Connections are kept to this machine by pytest-socket (pyproject.toml); a lookup comes before the connection.
    """
    look_up = socket.getaddrinfo

    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_local(host):
            raise SocketBlockedError(f"A test tried to use socket.getaddrinfo for {host!r}.")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", guarded)
        yield


def _is_local(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name == "localhost" or name == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return where the program's log goes, as JSON."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(stream, "json")
    yield stream
    root.handlers[:], level = before
    root.setLevel(level)
