"""`editctl config --from-stack` and `editctl completion`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from controller.assembly import Assembly
from controller.aws.stack import read_outputs
from controller.config import from_outputs, load, printed_name, settings
from controller.errors import AccessDenied, ConfigError
from tests.cli.lab import Account

OUTPUTS = {
    "Cluster": "prod",
    "Subnets": "subnet-1,subnet-2",
    "SecurityGroups": "sg-1",
    "FamilyPerProject": "false",
    "SessionsTable": "prod-sessions",
    "AgentPort": "8642",
    "ControllerLogGroup": "/prod/controller",
    "ChannelSecret": "no secret is printed by a stack, and none is read",
}


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mapping[str, str]]:
    """Return what the stacks of this account print."""
    found: dict[str, Mapping[str, str]] = {"runtime": OUTPUTS, "data": {"ControllerTable": "prod-notes"}, "empty": {}}
    monkeypatch.setattr(Assembly, "stack_outputs", lambda _, name: found[name])
    return found


def test_the_settings_are_shown_as_a_file(account: Account, stacks: object) -> None:
    done = account.editctl("config", "--from-stack", "runtime", "--from-stack", "data")
    assert done.exit_code == 0, done.output
    assert tomllib.loads(done.stdout) == {
        "cluster": "prod",
        "sessions_table": "prod-sessions",
        "controller_table": "prod-notes",
        "family_per_project": "false",
        "subnets": "subnet-1,subnet-2",
        "security_groups": "sg-1",
        "agent_port": "8642",
    }


def test_they_are_written_and_read_again(
    account: Account, stacks: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "editctl.toml"
    file.write_text('# by hand\ncluster = "old"\nidle_timeout = "1h" # long\nsubnets = ["subnet-1", "subnet-2"]\n')
    first = account.editctl("config", "--from-stack", "runtime", "--write", "editctl.toml")
    assert first.exit_code == 0, first.output
    assert first.stdout.splitlines()[:2] == ["~ cluster", "~ sessions_table"]
    assert first.stdout.splitlines()[-1] == "Next: editctl plan --config editctl.toml"
    text = file.read_text()
    assert text.startswith(
        '# by hand\ncluster = "prod"\nidle_timeout = "1h" # long\nsubnets = ["subnet-1", "subnet-2"]\n'
    )
    config = load(file="editctl.toml").config
    assert (config.cluster, config.agent_port, config.subnets) == ("prod", 8642, ("subnet-1", "subnet-2"))
    second = account.editctl("config", "--from-stack", "runtime", "--write", "editctl.toml")
    assert (second.exit_code, second.stdout.splitlines()[0]) == (0, "= editctl.toml says so already")
    assert file.read_text() == text


def test_a_file_that_cannot_be_changed_is_left_alone(account: Account, stacks: object, tmp_path: Path) -> None:
    file = tmp_path / "editctl.toml"
    for text in ("cluster = '''\nold'''\n", "cluster = ", "[deep]\ncluster = 'old'\n"):
        file.write_text(text)
        done = account.editctl("config", "--from-stack", "runtime", "--write", str(file))
        assert (done.exit_code, done.stdout) == (1, ""), text
        assert file.read_text() == text
    done = account.editctl("config", "--from-stack", "runtime", "--write", str(tmp_path / "no" / "x"))
    assert (done.exit_code, "cannot be written" in done.stderr) == (1, True)


def test_what_is_wrong_with_a_stack(account: Account, stacks: dict[str, Mapping[str, str]]) -> None:
    stacks["odd"] = {"Cluster": "no cluster!"}
    for args, said in (
        (("--from-stack", "empty"), "error: stack 'empty' prints no setting"),
        (("--from-stack", "odd"), "error: Cluster of stack odd is 'no cluster!'"),
        (("--write", "x"), "error: --write goes with --from-stack"),
    ):
        done = account.editctl("config", *args)
        assert (done.exit_code, done.stdout) == (1, "")
        assert said in done.stderr


def test_every_setting_but_the_secret_can_be_printed() -> None:
    assert {printed_name(s) for s in settings()} >= {"Cluster", "HintQueueUrl", "OriginalWriters"}
    assert from_outputs({"ChannelSecret": "x" * 40}, "s") == {}


@pytest.fixture
def cloudformation() -> Any:
    return boto3.client("cloudformation", region_name="eu-west-1")


def test_the_outputs_of_a_stack(cloudformation: Any) -> None:
    stack = {
        "StackName": "runtime",
        "CreationTime": 0,
        "StackStatus": "CREATE_COMPLETE",
        "Outputs": [{"OutputKey": "Cluster", "OutputValue": "prod"}],
    }
    with Stubber(cloudformation) as stub:
        stub.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "runtime"})
        assert read_outputs(cloudformation, "runtime") == {"Cluster": "prod"}


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("ValidationError", "Stack with id runtime does not exist", ConfigError),
        ("AccessDenied", "not authorized", AccessDenied),
    ],
)
def test_no_such_stack(cloudformation: Any, code: str, message: str, error: type[Exception]) -> None:
    with Stubber(cloudformation) as stub:
        stub.add_client_error("describe_stacks", code, message, 400)
        with pytest.raises(error):
            read_outputs(cloudformation, "runtime")
