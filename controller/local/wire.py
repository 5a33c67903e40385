"""HTTP requests and replies as values, and the AWS JSON 1.1 protocol that the SDKs speak to ECS."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from controller.local.ecs import EcsError, StrictEcs

__all__ = ["ECS_TARGET", "Reply", "Request", "answer_ecs", "refusal", "signed_service"]

logger = logging.getLogger(__name__)

ECS_TARGET = "AmazonEC2ContainerServiceV20141113"
JSON_TYPE = "application/x-amz-json-1.1"

# IAM User Guide, "Elements of an AWS API request signature": access key/date/region/service/aws4_request.
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d{8}/[^/]+/(?P<service>[^/]+)/aws4_request")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def target(self) -> tuple[str, str]:
        """Return interface and operation as X-Amz-Target names them, empty without one."""
        interface, _, operation = self.headers.get("x-amz-target", "").partition(".")
        return interface, operation


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply, without Date, request id and Content-Length, which the server adds."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON_TYPE})


def signed_service(request: Request) -> str | None:
    """Return the service that a request is signed for, None if it is not signed. The signature is not verified."""
    match = _CREDENTIAL.search(request.headers.get("authorization", ""))
    return match["service"].lower() if match else None


def answer_ecs(ecs: StrictEcs, request: Request) -> Reply:
    """Return the reply to a request for ECS."""
    interface, operation = request.target
    try:
        if interface != ECS_TARGET:
            raise EcsError("UnknownOperationException", "Requests for ECS need an X-Amz-Target: the JSON 1.1 protocol.")
        return _json_reply(200, ecs.call(operation, _params(request.body)))
    except EcsError as error:
        return _json_reply(error.status, {"__type": error.code, "message": error.message, **error.extra})
    except Exception as error:
        logger.exception("%s failed", operation)
        return _json_reply(500, {"__type": "ServerException", "message": f"{type(error).__name__}: {error}"})


def refusal(request: Request, status: int, code: str, message: str) -> Reply:
    """Return an error in the protocol of the request: JSON, or XML for the query protocols."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return _json_reply(status, {"__type": code, "message": message})
    error = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    # EC2 wraps errors in its own way.
    body = f"<Response><Errors>{error}</Errors></Response>"
    if signed_service(request) != "ec2":
        body = f"<ErrorResponse>{error}</ErrorResponse>"
    return Reply(status, body.encode(), {"Content-Type": "text/xml"})


def _params(body: bytes) -> dict[str, Any]:
    try:
        params = json.loads(body or b"{}")
    except ValueError:
        raise EcsError("SerializationException", "The body is not JSON.") from None
    if not isinstance(params, dict):
        raise EcsError("SerializationException", "The body is not a JSON object.")
    return params


def _json_reply(status: int, answer: Mapping[str, Any]) -> Reply:
    return Reply(status, json.dumps(answer, separators=(",", ":")).encode())
