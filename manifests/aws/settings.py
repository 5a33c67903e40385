"""What can be chosen about a deployment: one value, read from the CDK context once.

`cdk deploy -c existingTables=true -c sessionsTable=…`; docs/deploy.md has the table of all keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any


class ContextError(ValueError):
    """A context value that cannot be used, or one that is missing."""


@dataclass(frozen=True)
class Settings:
    """One installation. The names are those of controller/config.py where there is one of the same meaning."""

    prefix: str = "editctl"
    """Begins the names of stacks, hint queue and log groups."""
    controller_id: str = "default"
    cluster: str = "webordinary"
    existing_cluster: bool = False
    task_definition: str = "webordinary-edit"
    """The family."""
    container_name: str = "edit-container"
    family_per_project: bool = False
    sessions_table: str = "webordinary-edit-sessions"
    containers_table: str = "webordinary-containers"
    controller_table: str = "webordinary-controller"
    existing_tables: bool = False
    """Use tables that are there: none is made, and nothing about them is changed."""
    sessions_stream: str = ""
    containers_stream: str = ""
    """The stream ARNs of existing tables; Hints needs them, since a stream has a time in its name."""
    vpc_id: str = ""
    """An existing VPC; its subnets for tasks are given by `subnets`."""
    subnets: tuple[str, ...] = ()
    nat_gateways: int = 1
    """Of a new VPC. 0: tasks get public addresses instead, which costs less and shows more."""
    agent_port: int = 8642
    session_queues: str = "webordinary-*"
    """Pattern of the names of the sessions' input and output queues."""
    repositories: str = "webordinary/*"
    """Pattern of the ECR repositories that the images are pulled from."""
    oidc_issuer: str = ""
    """`oidc.eks.REGION.amazonaws.com/id/…` of an EKS cluster whose pods get their role by IRSA, too."""
    alarm_topic: str = ""
    """ARN of an SNS topic that is told of alarms."""

    def __post_init__(self) -> None:
        if self.vpc_id and not self.subnets:
            raise ContextError("vpcId is set and subnets is not: name the subnets of the tasks, -c subnets=subnet-1,…")
        if self.subnets and not self.vpc_id:
            raise ContextError("subnets is set and vpcId is not: name their VPC, -c vpcId=vpc-1")
        if not 1 <= self.agent_port <= 65535:
            raise ContextError(f"agentPort is {self.agent_port}: a port is a number from 1 to 65535")
        if self.oidc_issuer.startswith("https://"):
            raise ContextError("oidcIssuer begins with https://: give it without")

    @property
    def hint_queue(self) -> str:
        """Not within `session_queues`: users' containers may read those."""
        return f"{self.prefix}-hints"

    @property
    def edit_logs(self) -> str:
        """The log group of the edit containers."""
        return f"/{self.prefix}/edit"

    @property
    def controller_logs(self) -> str:
        """The log group of the controller."""
        return f"/{self.prefix}/controller"

    @property
    def assign_public_ip(self) -> str:
        """ENABLED where tasks reach the internet by no other way."""
        return "ENABLED" if not self.vpc_id and self.nat_gateways == 0 else "DISABLED"


def read(get: Callable[[str], Any]) -> Settings:
    """Return the settings that a context holds. Raises ContextError."""
    values = {}
    for field in fields(Settings):
        given = get(context_key(field.name))
        if given is not None:
            values[field.name] = _converted(context_key(field.name), given, type(field.default))
    return Settings(**values)


def from_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Return the context of `key=value` pairs. Raises ContextError for a key that nothing reads."""
    found = dict(pair.partition("=")[::2] for pair in pairs)
    known = [context_key(field.name) for field in fields(Settings)]
    for key in found.keys() - set(known):
        near = difflib.get_close_matches(key, known, n=1)
        raise ContextError(f"there is no '{key}'{f': did you mean {near[0]}?' if near else ', see docs/deploy.md'}")
    return found


def context_key(name: str) -> str:
    """`existing_tables` is `existingTables` in a context, as is the habit there."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _converted(key: str, given: Any, kind: type) -> Any:
    text = str(given).strip()
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ContextError(f"{key} is '{given}': it is true or false")
        return text.lower() == "true"
    if kind is int:
        if not text.isdecimal():
            raise ContextError(f"{key} is '{given}': it is a number")
        return int(text)
    if kind is tuple:
        parts = given if isinstance(given, list) else text.split(",")
        return tuple(str(part).strip() for part in parts if str(part).strip())
    return text
