"""The calls that controller/aws makes against the actions that the policies allow, both ways."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.aws import client
from tests.manifests.evaluator import list_of, statements
from tests.manifests.permissions import policy

AWS = Path(client.__file__).parent
SERVICES = {"DynamoDbCalls": "dynamodb", "EcsCalls": "ecs", "SqsCalls": "sqs", "CloudFormationCalls": "cloudformation"}
"""The protocols that list the calls, and the services that they are of."""

OF_PEOPLE = {
    "dynamodb:CreateTable": "`editctl tables create`; the data stack makes the tables otherwise",
}
"""Actions that no policy of ours allows, and who makes them."""

BESIDE = {
    "ecs:RunTask": {"ecs:TagResource", "iam:PassRole"},
    "ecs:RegisterTaskDefinition": {"iam:PassRole"},
}
"""What IAM asks for beside the action itself: a launch sets tags and gives the task its roles."""

ROLES = ("controller", "controller-families", "operator", "operator-writes", "session-writer")
"""The roles in which our program runs."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield the files of controller/aws, parsed."""
    for path in sorted(AWS.glob("*.py")):
        yield path.name, ast.parse(path.read_text(encoding="utf-8"))


def declared() -> dict[str, set[str]]:
    """Return the services of each method that a protocol lists."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Calls"):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        found[method.name].add(SERVICES[node.name])
    return found


def used() -> set[str]:
    """Return the listed methods that are called, or handed on to be called, like `self._client.scan`."""
    known = declared()
    return {
        node.attr
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in known and _is_client(node.value)
    }


def called() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield file, method and call for every call of a client, like `self._client.x(…)` or `clients.ecs.x(…)`."""
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_client(node.func.value):
                yield file, node.func.attr, node


def _is_client(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in {"client", "_client", "dynamodb", "_dynamodb", "ecs", "_ecs", "sqs", "_sqs", "cloudformation"}


def actions_of(service: str, method: str) -> set[str]:
    """Return the actions that a call needs."""
    name = "".join(word.capitalize() for word in method.split("_"))
    if name == "TransactWriteItems":
        return {f"dynamodb:{verb}Item" for verb in transacted()}
    # A batch of SQS needs the permission of its single call; BatchGetItem of DynamoDB is an action of its own.
    action = f"{service}:{name.removesuffix('Batch') if service == 'sqs' else name}"
    return {action} | BESIDE.get(action, set())


def transacted() -> set[str]:
    """Return what our transactions consist of: Put, Update, Delete, ConditionCheck."""
    tree = ast.parse((AWS / "transactions.py").read_text(encoding="utf-8"))
    keys = {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    return keys & {"Put", "Update", "Delete", "ConditionCheck"}


def needed() -> set[str]:
    """Return every action that the code needs."""
    services = declared()
    return {action for method in used() for service in services[method] for action in actions_of(service, method)}


def allowed(*names: str) -> set[str]:
    """Return every action that these policies allow."""
    return {
        action
        for name in names
        for statement in statements(policy(name))
        if statement["Effect"] == "Allow"
        for action in list_of(statement["Action"])
    }


def test_every_call_is_one_that_is_listed():
    services = declared()
    unknown = {f"{file}: {method}" for file, method, call in called() if method not in services and _is_api(call)}
    assert unknown == set()


def _is_api(call: ast.Call) -> bool:
    # boto3 takes keyword arguments only, which tells its calls from others on things that are called the same.
    return bool(call.keywords) and not call.args


def test_no_method_is_of_two_services():
    assert {method: names for method, names in declared().items() if len(names) > 1} == {}


def test_what_is_listed_is_called():
    assert declared().keys() - used() == set()


def test_what_is_called_is_allowed_to_somebody():
    assert needed() - allowed(*ROLES) == OF_PEOPLE.keys()


def test_what_is_allowed_is_called_by_somebody():
    assert allowed(*ROLES) - needed() == set()


@pytest.mark.parametrize("action", ["ecs:RunTask", "ecs:StopTask", "iam:PassRole", "dynamodb:BatchGetItem"])
def test_only_the_controller_has_its_actions(action):
    assert [name for name in ROLES if action in allowed(name) and not name.startswith("controller")] == []


def test_transactions_are_what_session_writers_may_do():
    assert transacted() == {"Put", "Update", "Delete"}
    assert {f"dynamodb:{verb}Item" for verb in transacted()} <= allowed("session-writer")


def test_the_search_finds_the_calls_that_everybody_knows():
    assert {"run_task", "stop_task", "update_item", "transact_write_items"} <= used()
    assert {"ecs:RunTask", "ecs:TagResource", "iam:PassRole", "dynamodb:PutItem"} <= needed()
