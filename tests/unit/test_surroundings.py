"""What tests/conftest.py promises to every other test."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_socket import SocketBlockedError, SocketConnectBlockedError

from tests.fakes.clock import START_MS, FakeClock


@pytest.fixture(params=["127.0.0.1", "127.8.4.2", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Return a socket that listens on one of this machine's own addresses."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listening:
        try:
            listening.bind((request.param, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {request.param}: {error}")
        listening.listen(1)
        yield listening


def test_this_machine_may_be_reached(listener):
    with socket.create_connection(listener.getsockname()[:2], timeout=5) as connection:
        assert connection.getpeername() == listener.getsockname()


def test_a_unix_socket_may_be_reached(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a unix socket may be about 100 characters long
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind("it")
        listening.listen(1)
        client.connect("it")


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")])
def test_no_other_machine_may_be_reached(family, address):
    with socket.socket(family) as client, pytest.raises(SocketConnectBlockedError):
        client.connect((address, 9))


def test_no_other_machine_may_be_looked_up():
    with pytest.raises(SocketBlockedError):
        socket.create_connection(("dynamodb.eu-west-1.amazonaws.com", 443))


def test_only_the_test_credentials_are_there():
    ours = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "EDITCTL_", "GIT_"))}
    assert ours == {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-1",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }


@pytest.mark.parametrize("time_of_asking", ["first", "second"])
def test_what_a_test_leaves_behind_is_gone_for_the_next(time_of_asking):
    assert "EDITCTL_CLUSTER" not in os.environ
    assert list(Path.home().iterdir()) == []
    os.environ["EDITCTL_CLUSTER"] = "left"
    (Path.home() / ".aws").mkdir()
    (Path.home() / ".aws" / "credentials").write_text("left", encoding="utf-8")


@given(st.integers())
def test_hypothesis_runs_beside_the_fixtures_for_every_test(number):
    assert isinstance(number, int)


def test_times_are_told_in_utc():
    assert time.localtime(0).tm_hour == 0


def test_the_clock_moves_only_when_it_is_moved(clock):
    assert clock() == clock.now() == START_MS
    assert clock.step(ms=1, seconds=1.5, minutes=2, hours=1) == START_MS + 3_721_501
    assert clock.step(minutes=-62) == START_MS + 1_501
    assert clock.set(7) == clock.now() == 7


def test_clocks_do_not_share_their_time():
    one, other = FakeClock(), FakeClock(now=5)
    one.step(seconds=1)
    assert (one(), other()) == (START_MS + 1000, 5)
