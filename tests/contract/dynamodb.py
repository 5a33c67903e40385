"""A DynamoDB with one table, through boto3: what the rules of DynamoDB are written with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from tests.contract.engines import Engine

TABLE = "things"
OTHER = "others"
INDEX = "by-owner"
REFUSED = "ConditionalCheckFailedException"
INVALID = "ValidationException"

Item = Mapping[str, Any]


class DynamoDb:
    """The DynamoDB of one engine: two tables with the key `k`, the first with an index on `owner` and a stream."""

    def __init__(self, engine: Engine) -> None:
        # As many connections as the races have threads.
        self.client = engine.client("dynamodb", connections=16)
        self.create(TABLE, index=True)
        self.create(OTHER)

    def create(self, name: str, *, index: bool = False) -> dict[str, Any]:
        """Return the description of a new table, as CreateTable answers it."""
        request: dict[str, Any] = {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
        }
        if index:
            request["AttributeDefinitions"].append({"AttributeName": "owner", "AttributeType": "S"})
            request["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": INDEX,
                    "KeySchema": [{"AttributeName": "owner", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            ]
            request["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        table: dict[str, Any] = self.client.create_table(**request)["TableDescription"]
        return table

    def put(self, key: str, **attributes: Item) -> None:
        """Put an item, whatever is there."""
        self.client.put_item(TableName=TABLE, Item={"k": {"S": key}, **attributes})

    def get(self, key: str, table: str = TABLE) -> dict[str, Any] | None:
        """Return an item without its key, read strongly, or None."""
        answer = self.client.get_item(TableName=table, Key={"k": {"S": key}}, ConsistentRead=True)
        if "Item" not in answer:
            return None
        return {name: value for name, value in answer["Item"].items() if name != "k"}

    def number(self, key: str, table: str = TABLE) -> int:
        """Return the number `n` of an item."""
        item = self.get(key, table)
        assert item is not None
        return int(item["n"]["N"])

    def update(self, key: str, expression: str, condition: str = "", table: str = TABLE, /, **values: Item) -> Any:
        """Return the answer of an UpdateItem; `v=…` is the value `:v`, and `#x` stands for the attribute `x`."""
        return self.client.update_item(**change(key, expression, condition, table, **values))

    def holds(self, key: str, condition: str, **values: Item) -> bool:
        """Return whether an item meets a condition."""
        try:
            self.update(key, "SET #seen = :yes", condition, yes={"BOOL": True}, **values)
        except ClientError as error:
            if error.response["Error"]["Code"] != REFUSED:
                raise
            return False
        return True

    def transact(self, *operations: Mapping[str, Any], **params: Any) -> Any:
        """Return the answer of a TransactWriteItems."""
        return self.client.transact_write_items(TransactItems=list(operations), **params)


def change(key: str, expression: str, condition: str = "", table: str = TABLE, /, **values: Item) -> dict[str, Any]:
    """Return the argument of an UpdateItem, or of an Update in a transaction."""
    request: dict[str, Any] = {"TableName": table, "Key": {"k": {"S": key}}, "UpdateExpression": expression}
    if condition:
        request["ConditionExpression"] = condition
    if names := re.findall(r"#\w+", f"{expression} {condition}"):
        request["ExpressionAttributeNames"] = {name: name.removeprefix("#") for name in names}
    if values:
        request["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
    return request


def raised(key: str, seen: int, table: str = TABLE) -> dict[str, Any]:
    """Return an update that adds 1 to `n` if it is as seen."""
    return change(key, "SET n = :next", "n = :seen", table, seen=number(seen), next=number(seen + 1))


def number(value: int | str) -> dict[str, str]:
    """Return a number as DynamoDB's JSON has it."""
    return {"N": str(value)}


def text(value: str) -> dict[str, str]:
    """Return a text as DynamoDB's JSON has it."""
    return {"S": value}
