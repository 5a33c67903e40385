"""ECS's events as EventBridge delivers them (Amazon ECS Developer Guide, "Amazon ECS task state change events")."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["task_state_change"]


def task_state_change(described: Mapping[str, Any], region: str, at: int) -> dict[str, Any]:
    """Return the event of a task as DescribeTasks shows it at an instant (epoch milliseconds): its times are texts."""
    detail = {
        name: _time(value) if name.endswith("At") and isinstance(value, float) else value
        for name, value in described.items()
    }
    return {
        "version": "0",
        "id": f"{described['taskArn']}/{described.get('version', 0)}",
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": described["taskArn"].split(":")[4],
        "time": _time(at / 1000),
        "region": region,
        "resources": [described["taskArn"]],
        "detail": {**detail, "updatedAt": _time(at / 1000)},
    }


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
