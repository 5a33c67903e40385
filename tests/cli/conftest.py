"""What the tests of the commands share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.aws.client import Clients, ClientSettings, connect
from controller.local.ecs import Timings
from controller.local.server import LocalEndpoint
from tests.cli.lab import Account, Lab
from tests.fakes.clock import FakeClock


@pytest.fixture
def lab() -> Lab:
    """Return a simulated account of the test's own."""
    return Lab()


@pytest.fixture(scope="session")
def shared_clock() -> FakeClock:
    """Return the clock of the shared endpoint; it only goes forward."""
    return FakeClock()


@pytest.fixture(scope="session")
def endpoint(shared_clock: FakeClock) -> Iterator[LocalEndpoint]:
    """Return the one endpoint of all tests here: what loads moto is done once."""
    with LocalEndpoint(clock=shared_clock, timings=Timings.fast()) as started:
        yield started


@pytest.fixture(scope="session")
def clients(endpoint: LocalEndpoint, shared_clock: FakeClock) -> Clients:
    """Return clients for it that do not try again: a test says what fails."""
    return connect(ClientSettings(region="us-east-1", endpoint_url=endpoint.url, max_attempts=1), shared_clock)


@pytest.fixture
def account(endpoint: LocalEndpoint, clients: Clients, shared_clock: FakeClock) -> Iterator[Account]:
    """Return an account with nothing in it yet."""
    yield Account(endpoint, clients, shared_clock)
    endpoint.ecs.faults.clear()


@pytest.fixture
def ready(account: Account) -> Account:
    """Return an account with tables, cluster and task definition."""
    account.there()
    return account
