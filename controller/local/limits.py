"""The rules that ECS checks before it does anything: names and types of parameters, lengths, characters, counts.

Sources are the AmazonECS APIReference pages of the operations and data types named; messages are ECS's own where they
are known from the field.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from controller.local.errors import EcsError, invalid_parameter

__all__ = [
    "MAX_PAGE",
    "OPERATIONS",
    "check_network",
    "check_overrides",
    "check_run_task",
    "check_shape",
    "included",
    "page_size",
    "strings",
    "tag_keys",
    "tags_of",
    "with_tags",
]

MAX_PAGE = 100
MAX_COUNT = 10
MAX_OVERRIDES = 8192
MAX_STARTED_BY = 128
MAX_TAGS = 50
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
MAX_TOKEN = 64

_STARTED_BY = re.compile(r"[A-Za-z0-9_/-]*")
_TOKEN = re.compile(r"[!-~]+")
_TAG_PUNCTUATION = frozenset("_.:/=+-@")

_PAGING = {"maxResults": int, "nextToken": str}
_PARAMETERS: Mapping[str, Mapping[str, type]] = {
    "CreateCluster": {
        "capacityProviders": list,
        "clusterName": str,
        "configuration": dict,
        "defaultCapacityProviderStrategy": list,
        "serviceConnectDefaults": dict,
        "settings": list,
        "tags": list,
    },
    "DeleteCluster": {"cluster": str},
    "DeregisterTaskDefinition": {"taskDefinition": str},
    "DescribeClusters": {"clusters": list, "include": list},
    "DescribeTaskDefinition": {"include": list, "taskDefinition": str},
    "DescribeTasks": {"cluster": str, "include": list, "tasks": list},
    "ListClusters": _PAGING,
    "ListTagsForResource": {"resourceArn": str},
    "ListTaskDefinitions": {**_PAGING, "familyPrefix": str, "sort": str, "status": str},
    "ListTasks": {
        **_PAGING,
        "cluster": str,
        "containerInstance": str,
        "daemonName": str,
        "desiredStatus": str,
        "family": str,
        "launchType": str,
        "serviceName": str,
        "startedBy": str,
    },
    "RegisterTaskDefinition": {
        "containerDefinitions": list,
        "cpu": str,
        "enableFaultInjection": bool,
        "ephemeralStorage": dict,
        "executionRoleArn": str,
        "family": str,
        "inferenceAccelerators": list,
        "ipcMode": str,
        "memory": str,
        "networkMode": str,
        "pidMode": str,
        "placementConstraints": list,
        "proxyConfiguration": dict,
        "requiresCompatibilities": list,
        "runtimePlatform": dict,
        "tags": list,
        "taskRoleArn": str,
        "volumes": list,
    },
    "RunTask": {
        "capacityProviderStrategy": list,
        "clientToken": str,
        "cluster": str,
        "count": int,
        "enableECSManagedTags": bool,
        "enableExecuteCommand": bool,
        "group": str,
        "launchType": str,
        "networkConfiguration": dict,
        "overrides": dict,
        "platformVersion": str,
        "propagateTags": str,
        "referenceId": str,
        "startedBy": str,
        "tags": list,
        "taskDefinition": str,
    },
    "StopTask": {"cluster": str, "reason": str, "task": str},
    "TagResource": {"resourceArn": str, "tags": list},
    "UntagResource": {"resourceArn": str, "tagKeys": list},
}
OPERATIONS = frozenset(_PARAMETERS)
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "DeleteCluster": ("cluster",),
    "DeregisterTaskDefinition": ("taskDefinition",),
    "DescribeTaskDefinition": ("taskDefinition",),
    "DescribeTasks": ("tasks",),
    "ListTagsForResource": ("resourceArn",),
    "RegisterTaskDefinition": ("family", "containerDefinitions"),
    "RunTask": ("taskDefinition",),
    "StopTask": ("task",),
    "TagResource": ("resourceArn", "tags"),
    "UntagResource": ("resourceArn", "tagKeys"),
}
_OVERRIDES: Mapping[str, type] = {
    "containerOverrides": list,
    "cpu": str,
    "ephemeralStorage": dict,
    "executionRoleArn": str,
    "inferenceAcceleratorOverrides": list,
    "memory": str,
    "taskRoleArn": str,
}
_CONTAINER_OVERRIDE: Mapping[str, type] = {
    "command": list,
    "cpu": int,
    "environment": list,
    "environmentFiles": list,
    "memory": int,
    "memoryReservation": int,
    "name": str,
    "resourceRequirements": list,
}
_AWSVPC: Mapping[str, type] = {"assignPublicIp": str, "securityGroups": list, "subnets": list}


def check_shape(operation: str, params: Mapping[str, Any]) -> None:
    """Refuse an unknown operation, a missing parameter, one of another type, and one that has no effect here."""
    if operation not in _PARAMETERS:
        raise EcsError("UnknownOperationException", f"{operation} is not implemented by this local ECS.")
    _check_members(operation, params, _PARAMETERS[operation])
    for name in _REQUIRED.get(operation, ()):
        if params.get(name) in (None, ""):
            raise invalid_parameter(f"{name[0].upper()}{name[1:]} cannot be empty.")


def check_run_task(params: Mapping[str, Any]) -> None:
    """Refuse what RunTask refuses without looking at the cluster or the task definition (APIReference RunTask)."""
    if not 1 <= params.get("count", 1) <= MAX_COUNT:
        raise invalid_parameter(f"Count must be between 1 and {MAX_COUNT}.")
    started_by = params.get("startedBy", "")
    if len(started_by) > MAX_STARTED_BY or not _STARTED_BY.fullmatch(started_by):
        raise invalid_parameter(
            f"startedBy may have up to {MAX_STARTED_BY} letters, numbers, hyphens, slashes and underscores."
        )
    token = params.get("clientToken")
    if token is not None and (len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token)):
        raise invalid_parameter(f"clientToken may have 1 to {MAX_TOKEN} characters in the range of 33-126.")
    if params.get("launchType") is not None and params.get("capacityProviderStrategy"):
        raise invalid_parameter("Specifying both a launch type and capacity provider strategy is not supported.")
    if params.get("propagateTags", "NONE") not in ("NONE", "TASK_DEFINITION"):
        raise invalid_parameter("RunTask takes no propagateTags but TASK_DEFINITION and NONE.")
    tags_of(params.get("tags", ()))


def check_overrides(overrides: Mapping[str, Any], container_names: Sequence[str]) -> None:
    """Refuse overrides that are too long or name what cannot be overridden (APIReference RunTask, TaskOverride)."""
    if len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False)) > MAX_OVERRIDES:
        raise invalid_parameter(f"Container Overrides length must be at most {MAX_OVERRIDES}")
    _check_members("overrides", overrides, _OVERRIDES)
    if not 21 <= overrides.get("ephemeralStorage", {}).get("sizeInGiB", 21) <= 200:
        raise invalid_parameter("Ephemeral storage must be between 21 and 200 GiB.")
    for override in overrides.get("containerOverrides", ()):
        _check_type("overrides", "containerOverrides", override, dict)
        _check_members("containerOverrides", override, _CONTAINER_OVERRIDE)
        if "name" not in override:
            raise invalid_parameter("Container name cannot be empty in an override.")
        if override["name"] not in container_names:
            raise invalid_parameter(
                f"Override for container named {override['name']} is not a container in the TaskDefinition."
            )


def check_network(configuration: Mapping[str, Any] | None, network_mode: str) -> None:
    """Refuse a network configuration that does not fit the network mode (APIReference AwsVpcConfiguration)."""
    if network_mode != "awsvpc":
        if configuration:
            raise invalid_parameter(
                "Network Configuration is not valid for the given networkMode of this task definition."
            )
        return
    vpc = (configuration or {}).get("awsvpcConfiguration")
    if not vpc:
        raise invalid_parameter("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    _check_members("awsvpcConfiguration", vpc, _AWSVPC)
    if not 1 <= len(vpc.get("subnets", ())) <= 16:
        raise invalid_parameter("There must be between 1 and 16 subnets.")
    if len(vpc.get("securityGroups", ())) > 5:
        raise invalid_parameter("There may be up to 5 security groups.")
    if vpc.get("assignPublicIp", "DISABLED") not in ("ENABLED", "DISABLED"):
        raise invalid_parameter("assignPublicIp must be ENABLED or DISABLED.")


def tags_of(tags: Sequence[Any]) -> dict[str, str]:
    """Return a list of tags as a dict, or refuse it (APIReference Tag: characters, lengths, reserved prefix)."""
    result: dict[str, str] = {}
    for tag in tags:
        _check_type("tags", "tag", tag, dict)
        _check_members("tag", tag, {"key": str, "value": str})
        key, value = tag.get("key", ""), tag.get("value", "")
        _check_tag(key, value)
        if key in result:
            raise invalid_parameter(f"Duplicate tag key: {key}")
        result[key] = value
    return with_tags({}, result)


def with_tags(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return tags with others added, or refuse more than a resource can carry (APIReference TagResource)."""
    merged = {**old, **new}
    # Tags of AWS itself do not count (APIReference RunTask, tags).
    if sum(not key.startswith("aws:") for key in merged) > MAX_TAGS:
        raise invalid_parameter(f"The maximum number of tags per resource is {MAX_TAGS}.")
    return merged


def tag_keys(keys: Sequence[Any]) -> list[str]:
    """Return the keys to remove, or refuse them (APIReference UntagResource)."""
    for key in keys:
        _check_type("tagKeys", "key", key, str)
        _check_tag(key, "")
    return list(keys)


def strings(params: Mapping[str, Any], name: str) -> list[str]:
    """Return a list parameter whose members must be strings, empty if it is not given."""
    values: list[str] = params.get(name, [])
    for value in values:
        _check_type(name, "member", value, str)
    return values


def included(params: Mapping[str, Any], *known: str) -> list[str]:
    """Return what `include` asks for beside the usual, or refuse a field that the operation does not have."""
    fields = strings(params, "include")
    for name in fields:
        if name not in known:
            raise invalid_parameter(f"include must be one of {', '.join(known)}.")
    return fields


def page_size(params: Mapping[str, Any]) -> int:
    """Return how many results a page has (APIReference ListTasks, maxResults)."""
    size: int = params.get("maxResults", MAX_PAGE)
    if not 1 <= size <= MAX_PAGE:
        raise invalid_parameter(f"maxResults must be between 1 and {MAX_PAGE}.")
    return size


def _check_tag(key: str, value: str) -> None:
    if not 1 <= len(key) <= MAX_TAG_KEY:
        raise invalid_parameter(f"A tag key has 1 to {MAX_TAG_KEY} characters: {key[:40]!r}")
    if len(value) > MAX_TAG_VALUE:
        raise invalid_parameter(f"A tag value has up to {MAX_TAG_VALUE} characters; that of {key!r} has {len(value)}.")
    for text in (key, value):
        if text.lower().startswith("aws:"):
            raise invalid_parameter(f"Tag keys and values cannot begin with aws: {text!r}")
        if not all(_may_be_in_tag(character) for character in text):
            raise invalid_parameter(f"A tag has a character that is not allowed: {text!r}")


def _may_be_in_tag(character: str) -> bool:
    # The pattern of TagKey and TagValue is [\p{L}\p{Z}\p{N}_.:/=+\-@]*.
    return character in _TAG_PUNCTUATION or unicodedata.category(character)[0] in "LZN"


def _check_members(where: str, params: Mapping[str, Any], members: Mapping[str, type]) -> None:
    for name, value in params.items():
        if name not in members:
            # ECS would ignore it; here it is an error, since an ignored parameter is a difference nobody sees.
            raise invalid_parameter(f"This local ECS has no parameter {name!r} in {where}.")
        _check_type(where, name, value, members[name])


def _check_type(where: str, name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise EcsError("SerializationException", f"{name} in {where} is not of type {expected.__name__}.")
