"""The promises of our tables (tests/adapters), every one of them and unchanged, on ministack over HTTP.

Its own process answers with many threads at once, so it is where writers really race.
"""

from __future__ import annotations

import boto3
import pytest

from controller.aws.client import ClientSettings, client_config
from tests.adapters import test_dynamodb, test_tables
from tests.adapters.stores import DynamoStore
from tests.contract.engines import Engine
from tests.fakes.clock import FakeClock

ENGINES = ("ministack",)


@pytest.fixture
def dynamo(engine: Engine, clock: FakeClock) -> DynamoStore:
    """Return our tables over an empty DynamoDB, with the client that the program makes."""
    client = boto3.client(
        "dynamodb",
        endpoint_url=engine.url,
        aws_access_key_id=engine.account,
        aws_secret_access_key="x",
        config=client_config(ClientSettings()),
    )
    return DynamoStore(clock, client)


@pytest.fixture
def store(dynamo: DynamoStore) -> DynamoStore:
    """Return the same tables for the promises that the in-memory ones keep, too."""
    return dynamo


twisted, tables = test_dynamodb.twisted, test_dynamodb.tables

for _module in (test_tables, test_dynamodb):
    globals().update({name: value for name, value in vars(_module).items() if name.startswith("test_")})
