"""`EDITCTL_ORIGINAL_WRITERS=false`: the strong look asks the index, and scans where rows and count do not agree."""

from __future__ import annotations

from typing import Any

import pytest

from controller.aws.tables import Tables
from controller.core.model import Session
from controller.errors import AwsError
from tests.adapters.stores import NAMES, DynamoStore
from tests.adapters.test_dynamodb import Answer, Twist, Twisted
from tests.builders import NOW, TOM, identity

EVA = "acme-shop-eva"


def by_index(dynamo: DynamoStore) -> tuple[Tables, Twisted]:
    client = Twisted(dynamo.client)
    return Tables(client, NAMES, dynamo.clock, region="eu-west-1", scan=False), client


def opened(dynamo: DynamoStore, *names: str, container: str = TOM) -> None:
    for name in names:
        dynamo.tables.open(Session(name, container, identity(container)), identity(container), NOW)


def looked(client: Twisted) -> list[str]:
    return [name for name, _ in client.asked if name in ("scan", "query")]


def test_it_sees_what_the_scan_sees_and_scans_nothing(dynamo: DynamoStore) -> None:
    opened(dynamo, "s1", "s2")
    opened(dynamo, "e1", container=EVA)
    tables, client = by_index(dynamo)
    wanted = [TOM, EVA, "acme-site-ann"]
    found, scanned = tables.look(wanted), dynamo.tables.look(wanted)
    assert {i: (x.record, set(x.sessions), x.readable) for i, x in found.items()} == {
        i: (x.record, set(x.sessions), x.readable) for i, x in scanned.items()
    }
    assert looked(client) == ["query"] * 3
    assert all("ConsistentRead" not in asked for name, asked in client.asked if name == "query")


def late(answer: Answer) -> dict[str, Any]:
    return {**answer, "Items": list(answer["Items"])[1:]}


def test_a_late_index_is_not_believed(dynamo: DynamoStore) -> None:
    opened(dynamo, "s1", "s2")
    tables, client = by_index(dynamo)
    client.twist("query", [lambda call, parameters: late(call(**parameters))])
    assert {s.session_id for s in tables.look([TOM])[TOM].sessions} == {"s1", "s2"}
    assert looked(client) == ["query", "scan"]


def test_a_count_that_drifted_is_judged_by_the_base_table(dynamo: DynamoStore) -> None:
    opened(dynamo, "s1")
    dynamo.add_count(TOM, 3)
    tables, client = by_index(dynamo)
    look = tables.look([TOM])[TOM]
    assert (len(look.sessions), look.record and look.record.session_count) == (1, 4)
    assert looked(client) == ["query", "scan"]


def test_a_row_that_cannot_be_read_is_looked_for_in_the_base_table(dynamo: DynamoStore) -> None:
    opened(dynamo, "s1")
    dynamo.put("sessions", {"sessionId": {"S": "bad"}, "containerId": {"S": TOM}, "lastActivity": {"S": "NaN"}})
    tables, client = by_index(dynamo)
    assert tables.look([TOM])[TOM] == dynamo.tables.look([TOM])[TOM]
    assert looked(client) == ["query", "scan"]


def test_pages_of_the_index(dynamo: DynamoStore) -> None:
    opened(dynamo, *(f"s{n}" for n in range(5)))
    tables, client = by_index(dynamo)
    two: list[Twist | None] = [lambda call, parameters: call(**parameters, Limit=2)] * 3
    client.twist("query", two)
    assert len(tables.look([TOM])[TOM].sessions) == 5
    assert looked(client) == ["query"] * 3


def test_a_look_is_whole_or_none(dynamo: DynamoStore) -> None:
    opened(dynamo, "s1")
    tables, client = by_index(dynamo)

    def fails(*_: Any) -> Answer:
        raise TimeoutError

    client.twist("query", [fails])
    with pytest.raises((AwsError, TimeoutError)):
        tables.look([TOM])
