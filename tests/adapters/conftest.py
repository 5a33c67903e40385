"""The tables of the contract, twice: in memory, and over moto or, where one is given, another DynamoDB engine.

`SECOND_DYNAMODB=http://127.0.0.1:4570 pytest tests/adapters` tries the same promises, races included, on what answers
there. Its tables are deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from tests.adapters.stores import DynamoStore, FakeStore, OneAtATime, Store, delete_tables, dynamodb_client
from tests.fakes.clock import FakeClock

ENDPOINT = os.environ.get("SECOND_DYNAMODB")


@pytest.fixture(scope="session")
def client(clean_process: object) -> Any:
    """Return one DynamoDB client for all tests; what it talks to is made anew for each."""
    return dynamodb_client(ENDPOINT) if ENDPOINT else OneAtATime(dynamodb_client())


@pytest.fixture
def dynamo(client: Any, clock: FakeClock) -> Iterator[DynamoStore]:
    """Return our tables over an empty DynamoDB."""
    if ENDPOINT:
        delete_tables(client)
        yield DynamoStore(clock, client, lenient=True)
        return
    with mock_aws():
        yield DynamoStore(clock, client)


@pytest.fixture(params=["fake", "dynamodb"])
def store(request: pytest.FixtureRequest, clock: FakeClock) -> Store:
    """Return the tables under test: every promise is kept by both."""
    if request.param == "fake":
        return FakeStore(clock)
    found: Store = request.getfixturevalue("dynamo")
    return found
