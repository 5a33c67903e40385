"""boto3 clients in front of which stands a role's policy: what IAM would ask of each call is judged before it is made.

Which permissions an API call needs, and what is in the context, is written here from the Service Authorization
Reference; the policies are the files that are deployed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from controller.aws.client import Clients
from tests.manifests.evaluator import Document, Effect, Request, Value, judge
from tests.manifests.permissions import CLUSTER, arn

Parameters = Mapping[str, Any]

_KEYS = {"webordinary-edit-sessions": "sessionId", "webordinary-containers": "containerId"}
_PATH = re.compile(r"#\w+(?:\.#\w+)*")


class Guard:
    """One role: its policies, and what was asked of them."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self.allowed: list[Request] = []
        self.refused: list[Request] = []

    def clients(self, behind: Clients) -> Clients:
        """Return the clients as this role has them."""
        return Clients(
            _Guarded(behind.dynamodb, self, _dynamodb_requests),
            _Guarded(behind.ecs, self, _ecs_requests),
            _Guarded(behind.sqs, self, _sqs_requests),
            behind.region,
            behind.endpoint_url,
        )

    def check(self, operation: str, request: Request) -> None:
        """Raise what AWS answers when the role may not."""
        if judge(self._documents, request) is Effect.ALLOWED:
            self.allowed.append(request)
            return
        self.refused.append(request)
        message = f"not authorized to perform: {request.action} on resource: {request.resource}"
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, operation)

    @property
    def actions(self) -> set[str]:
        """The actions that were allowed at least once."""
        return {request.action for request in self.allowed}


class _Guarded:
    """A client whose methods ask first. Never satisfied with a method of which it is not known what it needs."""

    def __init__(self, client: Any, guard: Guard, needed: Callable[[Any, str, Parameters], Iterator[Request]]) -> None:
        self._client = client
        self._guard = guard
        self._needed = needed

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if not callable(call):
            return call

        def guarded(**parameters: Any) -> Any:
            for request in self._needed(self._client, name, parameters):
                self._guard.check(name, request)
            return call(**parameters)

        return guarded


# DynamoDB


def _dynamodb_requests(client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
    if name == "transact_write_items":
        for item in parameters["TransactItems"]:
            for verb, inner in item.items():
                yield _item(f"{verb}Item", inner, {"dynamodb:EnclosingOperation": "TransactWriteItems"})
    elif name == "batch_get_item":
        for table in parameters["RequestItems"]:
            yield Request("dynamodb:BatchGetItem", _table(table))
    elif name in ("scan", "describe_table"):
        yield Request(f"dynamodb:{_camel(name)}", _table(parameters["TableName"]))
    elif name in ("get_item", "put_item", "update_item", "delete_item"):
        yield _item(_camel(name), parameters, {})
    else:
        raise AssertionError(f"which permission does {name} need?")


def _item(action: str, parameters: Parameters, context: Mapping[str, Value]) -> Request:
    key = parameters.get("Key") or {name: parameters["Item"][name] for name in [_key_of(parameters["TableName"])]}
    named = {
        "dynamodb:LeadingKeys": tuple(v["S"] for v in key.values()),
        "dynamodb:Attributes": _attributes(parameters),
    }
    return Request(f"dynamodb:{action}", _table(parameters["TableName"]), {**named, **context})


def _key_of(table: str) -> str:
    return _KEYS.get(table, "name")


def _attributes(parameters: Parameters) -> tuple[str, ...]:
    """Return the top-level attributes that a request names anywhere."""
    names = parameters.get("ExpressionAttributeNames", {})
    texts = [str(value) for key, value in parameters.items() if key.endswith("Expression")]
    paths = {path.partition(".")[0] for text in texts for path in _PATH.findall(text)}
    whole = {*parameters.get("Key", {}), *parameters.get("Item", {}), *(names[path] for path in paths)}
    return tuple(sorted(whole))


def _table(name: str) -> str:
    return arn("dynamodb", f"table/{name}")


# ECS


def _ecs_requests(client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
    if name == "run_task":
        yield from _launch(client, parameters)
    elif name == "tag_resource":
        tags = _tags(parameters["tags"], "key", "value")
        yield Request("ecs:TagResource", parameters["resourceArn"], tags | _of(client, parameters["resourceArn"]))
    elif name == "stop_task":
        yield Request("ecs:StopTask", parameters["task"], _of(client, parameters["task"]))
    elif name == "describe_tasks":
        for task in parameters["tasks"]:
            yield Request("ecs:DescribeTasks", task, {"ecs:cluster": CLUSTER})
    elif name == "describe_clusters":
        for cluster in parameters["clusters"]:
            yield Request("ecs:DescribeClusters", arn("ecs", f"cluster/{cluster}"))
    elif name == "list_tasks":
        yield Request("ecs:ListTasks", "*", {"ecs:cluster": arn("ecs", f"cluster/{parameters['cluster']}")})
    elif name in ("list_clusters", "describe_task_definition"):
        yield Request(f"ecs:{_camel(name)}")
    elif name == "register_task_definition":
        yield Request("ecs:RegisterTaskDefinition", arn("ecs", f"task-definition/{parameters['family']}:1"))
        yield from _passed(parameters)
    else:
        raise AssertionError(f"which permission does {name} need?")


def _launch(client: Any, parameters: Parameters) -> Iterator[Request]:
    definition = client.describe_task_definition(taskDefinition=parameters["taskDefinition"])["taskDefinition"]
    tags = _tags(parameters.get("tags", ()), "key", "value")
    context = {"ecs:cluster": arn("ecs", f"cluster/{parameters['cluster']}")}
    if "enableExecuteCommand" in parameters:
        context["ecs:enable-execute-command"] = str(parameters["enableExecuteCommand"]).lower()
    yield Request("ecs:RunTask", definition["taskDefinitionArn"], {**tags, **context})
    if tags:
        yield Request("ecs:TagResource", arn("ecs", "task/webordinary/new"), {**tags, "ecs:CreateAction": "RunTask"})
    yield from _passed(definition)


def _passed(definition: Parameters) -> Iterator[Request]:
    for role in ("taskRoleArn", "executionRoleArn"):
        if definition.get(role):
            yield Request("iam:PassRole", definition[role], {"iam:PassedToService": "ecs-tasks.amazonaws.com"})


def _tags(tags: Sequence[Mapping[str, str]], key: str, value: str) -> dict[str, Value]:
    found: dict[str, Value] = {f"aws:RequestTag/{tag[key]}": tag[value] for tag in tags}
    return found | ({"aws:TagKeys": tuple(tag[key] for tag in tags)} if tags else {})


def _of(client: Any, task: str) -> dict[str, Value]:
    """Return the tags that a task has now: none any more when it is stopping."""
    found = client.describe_tasks(cluster="webordinary", tasks=[task], include=["TAGS"])["tasks"]
    return {f"aws:ResourceTag/{tag['key']}": tag["value"] for t in found for tag in t.get("tags", ())}


# SQS


def _sqs_requests(client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
    action = _camel(name).removesuffix("Batch")
    yield Request(f"sqs:{action}", arn("sqs", parameters["QueueUrl"].rpartition("/")[2]))


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
