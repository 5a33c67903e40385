"""AWS behind real boto3 clients: each request is answered just before it would be sent, after its time on the way.

So what boto3 costs is in the figures (building, signing, parsing, its retries), HTTP and TLS are not. How long a call
takes is an assumption, the same for everybody who is measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any
from unittest import mock

import boto3
from botocore.awsrequest import AWSResponse

from controller.aws.client import Clients, ClientSettings, connect
from controller.core.model import SECOND, Millis
from controller.local.ecs import StrictEcs
from controller.local.wire import JSON_TYPE, Request, answer_ecs
from tests.bench.dynamodb import DynamoDb, Refused
from tests.bench.virtual import VirtualTime

REGION = "eu-west-1"
NOWHERE = "http://127.0.0.1:9"
"""Nothing is ever sent there."""

SECONDS: Mapping[str, float] = {
    "BatchGetItem": 0.010,
    "Scan": 0.040,
    "ListTasks": 0.050,
    "DescribeTasks": 0.080,
    "RunTask": 0.300,
    "StopTask": 0.120,
    "TagResource": 0.100,
    # The controller asks for it under a lock, and who holds a lock must not wait in virtual time.
    "DescribeTaskDefinition": 0.0,
}
"""How long a call takes: assumed, never measured at AWS."""
OTHERWISE = 0.006
"""For the small operations of DynamoDB and SQS."""


@dataclass(frozen=True, slots=True)
class Event:
    """One RunTask or StopTask that ECS took: when, and for which container or task."""

    at: Millis
    operation: str
    subject: str


def _nobody_counts(api: str, code: str) -> None:
    """Do nothing with a call."""


class Wire:
    """Makes clients that reach these services and no other. `events` is what they did to tasks."""

    def __init__(self, virtual: VirtualTime, dynamodb: DynamoDb, ecs: StrictEcs) -> None:
        self.events: list[Event] = []
        self._virtual = virtual
        self._dynamodb = dynamodb
        self._ecs = ecs

    def clients(self, on_call: Callable[[str, str], None] = _nobody_counts) -> Clients:
        """Return clients as the program makes them."""
        clients = connect(ClientSettings(region=REGION, endpoint_url=NOWHERE), self._virtual, on_call)
        for client in (clients.dynamodb, clients.ecs, clients.sqs):
            self._attach(client)
        return clients

    def plain_client(self, service: str) -> Any:
        """Return a client as boto3 makes it by itself, legacy retries included."""
        return self._attach(boto3.client(service, region_name=REGION, endpoint_url=NOWHERE))

    def plain_resource(self, service: str) -> Any:
        """Return a resource as boto3 makes it by itself."""
        resource = boto3.resource(service, region_name=REGION, endpoint_url=NOWHERE)
        self._attach(resource.meta.client)
        return resource

    def _attach(self, client: Any) -> Any:
        client.meta.events.register("before-send", self._answer)
        return client

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let boto3 wait in virtual time between its tries, with credentials that are nobody's."""
        nobody = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody", "AWS_EC2_METADATA_DISABLED": "true"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        waits = SimpleNamespace(sleep=self._virtual.sleep)
        with mock.patch.dict(os.environ, {**kept, **nobody}, clear=True), mock.patch("botocore.endpoint.time", waits):
            yield

    def _answer(self, request: Any, **more: Any) -> AWSResponse:
        with self._virtual.outside():
            target = request.headers["X-Amz-Target"]
            interface, _, operation = (target.decode() if isinstance(target, bytes) else target).partition(".")
            body = request.body.encode() if isinstance(request.body, str) else request.body
            self._virtual.sleep(SECONDS.get(operation, OTHERWISE))
            if interface.startswith("DynamoDB"):
                status, answer = self._from_dynamodb(operation, body)
            elif interface.startswith("AmazonSQS"):
                status, answer = 200, b'{"Attributes":{}}'
            else:
                status, answer = self._from_ecs(f"{interface}.{operation}", operation, body)
            headers = {"Content-Type": JSON_TYPE, "Date": formatdate(self._virtual.now / SECOND, usegmt=True)}
            return AWSResponse(request.url, status, headers, _Body(answer))

    def _from_dynamodb(self, operation: str, body: bytes) -> tuple[int, bytes]:
        try:
            return 200, self._dynamodb.answer(operation, json.loads(body), self._virtual.now)
        except Refused as refused:
            kind = f"com.amazonaws.dynamodb.v20120810#{refused.code}"
            return 400, json.dumps({"__type": kind, "message": refused.message, **refused.extra}).encode()

    def _from_ecs(self, target: str, operation: str, body: bytes) -> tuple[int, bytes]:
        reply = answer_ecs(self._ecs, Request("POST", "/", {"x-amz-target": target}, body))
        if reply.status == 200 and operation in ("RunTask", "StopTask"):
            self.events.append(Event(self._virtual.now, operation, _subject(operation, json.loads(body))))
        return reply.status, reply.body


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _subject(operation: str, request: Mapping[str, Any]) -> str:
    if operation == "StopTask":
        return str(request["task"])
    (container,) = request["overrides"]["containerOverrides"]
    return next(str(v["value"]) for v in container["environment"] if v["name"] == "CONTAINER_ID")
