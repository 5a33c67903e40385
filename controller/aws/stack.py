"""What a CloudFormation stack prints: the settings of an installation are among it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import boto3
import botocore.exceptions as boto

from controller.aws.client import ClientSettings, client_config, part, quote, translate, translating
from controller.errors import AwsError, ConfigError


class CloudFormationCalls(Protocol):
    """What is used of boto3's CloudFormation client."""

    def describe_stacks(self, **parameters: Any) -> Mapping[str, Any]: ...


def connect_stacks(settings: ClientSettings) -> CloudFormationCalls:
    """Return a client; nothing is called yet. Raises ConfigError for a region or profile that cannot be."""
    try:
        session = boto3.session.Session(profile_name=settings.profile, region_name=settings.region)
        client: CloudFormationCalls = session.client(
            "cloudformation", endpoint_url=settings.endpoint_url, config=client_config(settings)
        )
    except (boto.BotoCoreError, ValueError) as error:
        raise translate(error, "connect", region=settings.region or "") from error
    return client


def read_outputs(client: CloudFormationCalls, name: str) -> dict[str, str]:
    """Return what the stack prints, by key. Raises ConfigError when there is no such stack."""
    try:
        with translating("DescribeStacks"):
            stacks = part(client.describe_stacks(StackName=name), "Stacks")
    except AwsError as error:
        # CloudFormation has no code of its own for a stack that is not there.
        if error.code == "ValidationError" and "does not exist" in str(error):
            raise ConfigError(
                f"no CloudFormation stack named {quote(name)}",
                "none of that name is in this account and region",
                "name another with --from-stack, or set AWS_REGION; `aws cloudformation list-stacks` shows them",
            ) from error
        raise
    outputs = stacks[0].get("Outputs", ()) if stacks else ()
    return {str(o.get("OutputKey", "")): str(o.get("OutputValue", "")) for o in outputs}
