"""What ECS says when it refuses a call: one exception, and short names for the codes that are used most."""

from __future__ import annotations

from typing import Any

__all__ = ["EcsError", "client_error", "cluster_not_found", "invalid_parameter", "status_of"]

_SERVER_STATUS = {"ServerException": 500, "InternalFailure": 500, "InternalServerError": 500, "ServiceUnavailable": 503}


class EcsError(Exception):
    """A refused or failed call: the API's error `code`, `message` and HTTP `status`, and the error's other members."""

    def __init__(self, code: str, message: str, status: int | None = None, **extra: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status_of(code) if status is None else status
        self.extra = extra


def status_of(code: str) -> int:
    """Return the HTTP status that goes with an error code (AmazonECS APIReference, Common Errors)."""
    return _SERVER_STATUS.get(code, 400)


def invalid_parameter(message: str) -> EcsError:
    """Return the error for a parameter that is not valid."""
    return EcsError("InvalidParameterException", message)


def client_error(message: str) -> EcsError:
    """Return the error for an identifier that is not valid or an action that is not possible."""
    return EcsError("ClientException", message)


def cluster_not_found(message: str = "Cluster not found.") -> EcsError:
    """Return the error for a cluster that does not exist, or no longer."""
    return EcsError("ClusterNotFoundException", message)
