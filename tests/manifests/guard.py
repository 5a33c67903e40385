"""boto3 clients in front of which stands a role's policy: what IAM would ask of each call is judged before it is made.

Which permissions an API call needs, and what is in the context, is written here from the Service Authorization
Reference; the policies are the files that are deployed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from controller.aws.client import Clients
from tests.manifests import permissions
from tests.manifests.evaluator import Document, Effect, Request, Value, judge

Parameters = Mapping[str, Any]

KEYS = ("sessionId", "name", "containerId")
"""The keys of our tables, in such an order that the first one that a row has is its key."""

_PATH = re.compile(r"#\w+(?:\.#\w+)*")


class Guard:
    """One role of an account: its policies, and what was asked of them."""

    def __init__(self, documents: Sequence[Document], account: str) -> None:
        self._documents = documents
        self._account = account
        self.allowed: list[Request] = []
        self.refused: list[Request] = []

    def clients(self, behind: Clients) -> Clients:
        """Return the clients as this role has them."""
        return Clients(
            _Guarded(behind.dynamodb, self, _DynamoDb(self._account)),
            _Guarded(behind.ecs, self, _Ecs(self._account)),
            _Guarded(behind.sqs, self, _Sqs(self._account)),
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
    """A client whose methods ask first; what a method needs must be known."""

    def __init__(self, client: Any, guard: Guard, needed: _Needs) -> None:
        self._client = client
        self._guard = guard
        self._needs = needed

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if not callable(call):
            return call

        def guarded(**parameters: Any) -> Any:
            for request in self._needs.of(self._client, name, parameters):
                self._guard.check(name, request)
            return call(**parameters)

        return guarded


class _Needs:
    """What the calls of one service need."""

    def __init__(self, account: str) -> None:
        self._account = account

    def of(self, client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
        """Yield what IAM is asked before a call."""
        raise NotImplementedError

    def arn(self, service: str, rest: str) -> str:
        """Return an ARN of this account."""
        return permissions.arn(service, rest, self._account)


class _DynamoDb(_Needs):
    def of(self, client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
        if name == "transact_write_items":
            for item in parameters["TransactItems"]:
                for verb, inner in item.items():
                    yield self._item(f"{verb}Item", inner, {"dynamodb:EnclosingOperation": "TransactWriteItems"})
        elif name == "batch_get_item":
            for table in parameters["RequestItems"]:
                yield Request("dynamodb:BatchGetItem", self._table(table))
        elif name == "query":
            index = self.arn("dynamodb", f"table/{parameters['TableName']}/index/{parameters['IndexName']}")
            yield Request("dynamodb:Query", index)
        elif name in ("scan", "describe_table"):
            yield Request(f"dynamodb:{_camel(name)}", self._table(parameters["TableName"]))
        elif name in ("get_item", "put_item", "update_item", "delete_item"):
            yield self._item(_camel(name), parameters, {})
        else:
            raise AssertionError(f"which permission does {name} need?")

    def _item(self, action: str, parameters: Parameters, context: Mapping[str, Value]) -> Request:
        key = parameters.get("Key") or {name: parameters["Item"][name] for name in KEYS if name in parameters["Item"]}
        first = next(iter(key.values()))["S"]
        named: dict[str, Value] = {"dynamodb:LeadingKeys": (first,), "dynamodb:Attributes": _attributes(parameters)}
        return Request(f"dynamodb:{action}", self._table(parameters["TableName"]), {**named, **context})

    def _table(self, name: str) -> str:
        return self.arn("dynamodb", f"table/{name}")


def _attributes(parameters: Parameters) -> tuple[str, ...]:
    """Return the top-level attributes that a request names anywhere."""
    names = parameters.get("ExpressionAttributeNames", {})
    texts = [str(value) for key, value in parameters.items() if key.endswith("Expression")]
    paths = {path.partition(".")[0] for text in texts for path in _PATH.findall(text)}
    return tuple(sorted({*parameters.get("Key", {}), *parameters.get("Item", {}), *(names[path] for path in paths)}))


class _Ecs(_Needs):
    def of(self, client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
        if name == "run_task":
            yield from self._launch(client, parameters)
        elif name == "tag_resource":
            task = parameters["resourceArn"]
            yield Request("ecs:TagResource", task, _asked(parameters["tags"]) | _tags_of(client, task))
        elif name == "stop_task":
            yield Request("ecs:StopTask", parameters["task"], _tags_of(client, parameters["task"]))
        elif name == "describe_tasks":
            for task in parameters["tasks"]:
                yield Request("ecs:DescribeTasks", task)
        elif name == "describe_clusters":
            for cluster in parameters["clusters"]:
                yield Request("ecs:DescribeClusters", self._cluster(cluster))
        elif name == "list_tasks":
            yield Request("ecs:ListTasks", "*", {"ecs:cluster": self._cluster(parameters["cluster"])})
        elif name in ("list_clusters", "describe_task_definition"):
            yield Request(f"ecs:{_camel(name)}")
        elif name == "register_task_definition":
            family = self.arn("ecs", f"task-definition/{parameters['family']}:1")
            yield from [Request("ecs:RegisterTaskDefinition", family), *_passed(parameters)]
        else:
            raise AssertionError(f"which permission does {name} need?")

    def _launch(self, client: Any, parameters: Parameters) -> Iterator[Request]:
        definition = client.describe_task_definition(taskDefinition=parameters["taskDefinition"])["taskDefinition"]
        tags = _asked(parameters.get("tags", ()))
        context = {"ecs:cluster": self._cluster(parameters["cluster"])}
        if "enableExecuteCommand" in parameters:
            context["ecs:enable-execute-command"] = str(parameters["enableExecuteCommand"]).lower()
        yield Request("ecs:RunTask", definition["taskDefinitionArn"], {**tags, **context})
        if tags:
            new = self.arn("ecs", f"task/{parameters['cluster']}/new")
            yield Request("ecs:TagResource", new, {**tags, "ecs:CreateAction": "RunTask"})
        yield from _passed(definition)

    def _cluster(self, name: str) -> str:
        return self.arn("ecs", f"cluster/{name}")


def _passed(definition: Parameters) -> Iterator[Request]:
    for role in ("taskRoleArn", "executionRoleArn"):
        if definition.get(role):
            yield Request("iam:PassRole", definition[role], {"iam:PassedToService": "ecs-tasks.amazonaws.com"})


def _asked(tags: Sequence[Mapping[str, str]]) -> dict[str, Value]:
    found: dict[str, Value] = {f"aws:RequestTag/{tag['key']}": tag["value"] for tag in tags}
    return found | ({"aws:TagKeys": tuple(tag["key"] for tag in tags)} if tags else {})


def _tags_of(client: Any, task: str) -> dict[str, Value]:
    """Return the tags that a task has now: none any more when it is stopping."""
    cluster = task.split("/")[1]
    found = client.describe_tasks(cluster=cluster, tasks=[task], include=["TAGS"])["tasks"]
    return {f"aws:ResourceTag/{tag['key']}": tag["value"] for t in found for tag in t.get("tags", ())}


class _Sqs(_Needs):
    def of(self, client: Any, name: str, parameters: Parameters) -> Iterator[Request]:
        # A batch needs the permission of its single call.
        action = _camel(name).removesuffix("Batch")
        yield Request(f"sqs:{action}", self.arn("sqs", parameters["QueueUrl"].rpartition("/")[2]))


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
