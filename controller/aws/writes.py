"""A RecordWrite as one conditional UpdateItem, and what its conditions mean.

"Absent" is one thing here and in `rows.py`: the attribute is missing, NULL, or an empty text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controller.aws.rows import to_value
from controller.core.ledger import Absent, Condition, Equals, NoLaterThan, OneOf, Path, RecordWrite

KEY = "containerId"


class Expression:
    """Names and values of one request as placeholders; `#` and `:` keep reserved words and data out of the text."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[str, dict[str, Any]] = {}

    def path(self, path: Path) -> str:
        """Return the placeholder of a path of attribute names."""
        return ".".join(self._names.setdefault(name, f"#n{len(self._names)}") for name in path)

    def value(self, value: Any) -> str:
        """Return the placeholder of a plain value; equal values share one."""
        wanted = to_value(value)
        for placeholder, known in self._values.items():
            if known == wanted:
                return placeholder
        placeholder = f":v{len(self._values)}"
        self._values[placeholder] = wanted
        return placeholder

    def parameters(self) -> dict[str, Any]:
        """Return the request's names and values; DynamoDB refuses an empty map of either."""
        found: dict[str, Any] = {}
        if self._names:
            found["ExpressionAttributeNames"] = {placeholder: name for name, placeholder in self._names.items()}
        if self._values:
            found["ExpressionAttributeValues"] = dict(self._values)
        return found

    # Conditions

    def absent(self, path: Path) -> str:
        """Return "nothing is there"."""
        name = self.path(path)
        if path == (KEY,):
            return f"attribute_not_exists({name})"
        null, empty = self.value("NULL"), self.value("")
        return f"(attribute_not_exists({name}) OR attribute_type({name}, {null}) OR {name} = {empty})"

    def equals(self, path: Path, value: Any) -> str:
        """Return "this value is there"."""
        return f"{self.path(path)} = {self.value(value)}"

    def number(self, path: Path, comparison: str, value: int) -> str:
        """Return "a number is there that compares so"; it says that it is one, since `<` alone means texts, too."""
        name = self.path(path)
        return f"(attribute_type({name}, {self.value('N')}) AND {name} {comparison} {self.value(value)})"

    def condition(self, condition: Condition) -> str:
        """Return one condition of the ledger."""
        match condition:
            case Equals(path, value):
                return self.equals(path, value)
            case Absent(path):
                return self.absent(path)
            case OneOf(path, values, or_absent):
                known = f"{self.path(path)} IN ({', '.join(self.value(v) for v in values)})"
                return f"({known} OR {self.absent(path)})" if or_absent else known
            case NoLaterThan(path, value):
                # What cannot be read does not let a write through.
                return f"({self.absent(path)} OR {self.number(path, '<=', value)})"


def update_expression(expression: Expression, write: RecordWrite) -> str:
    """Return the SET and REMOVE clauses of a write."""
    clauses = []
    if write.set:
        clauses.append(
            "SET " + ", ".join(f"{expression.path(p)} = {expression.value(v)}" for p, v in write.set.items())
        )
    if write.remove:
        clauses.append("REMOVE " + ", ".join(expression.path(p) for p in write.remove))
    return " ".join(clauses)


def update_item(table: str, write: RecordWrite) -> dict[str, Any]:
    """Return the UpdateItem argument of a write: what is there afterwards comes back, or what is there instead.

    UpdateItem creates a row that is not there. Claims and adoptions are meant to; every other write of the ledger
    expects a value that a missing row does not have.
    """
    expression = Expression()
    update = update_expression(expression, write)
    parameters: dict[str, Any] = {
        "TableName": table,
        "Key": {KEY: to_value(write.container_id)},
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    if update:
        parameters["UpdateExpression"] = update
    if write.expect:
        parameters["ConditionExpression"] = all_of([expression.condition(c) for c in write.expect])
    return parameters | expression.parameters()


def all_of(conditions: Sequence[str]) -> str:
    """Return the conjunction."""
    return " AND ".join(conditions)
