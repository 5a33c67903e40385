"""What ECS tells a task about itself: its ARN and its private address."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT = 2.0
_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Task:
    """Who this task is, as far as it could be learned."""

    arn: str = ""
    address: str = ""


def ask(uri: str) -> Task:
    """Return what the metadata endpoint (ECS_CONTAINER_METADATA_URI_V4) says, empty where it does not."""
    body = _get(uri.rstrip("/") + "/task") if uri else {}
    arn = body.get("TaskARN")
    return Task(arn if isinstance(arn, str) else "", _address(body))


def _address(body: dict[str, Any]) -> str:
    for container in body.get("Containers") or ():
        for network in (container.get("Networks") or ()) if isinstance(container, dict) else ():
            for address in (network.get("IPv4Addresses") or ()) if isinstance(network, dict) else ():
                if isinstance(address, str):
                    return address
    return ""


def _get(uri: str) -> dict[str, Any]:
    parts = urlsplit(uri)
    # Not urllib: a proxy from the environment must not hear of this.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = json.loads(answer.read(_LIMIT)) if answer.status == http.HTTPStatus.OK else {}
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return body if isinstance(body, dict) else {}
