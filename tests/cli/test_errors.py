"""Three lines for everything that can be wrong: what with its value, why, what to do. Exit code 1, no traceback."""

from __future__ import annotations

import pytest

from controller.cli.app import App
from tests.cli.lab import Account, Lab, run


def said(stderr: str) -> list[str]:
    """Return the lines of the errors, without the remark about the profile."""
    return [line for line in stderr.splitlines() if not line.startswith("profile local")]


def three(stderr: str) -> tuple[str, str, str]:
    lines = said(stderr)
    assert len(lines) == 3, stderr
    assert lines[0].startswith("error: ")
    assert all(line.startswith("  ") for line in lines[1:])
    return lines[0], lines[1], lines[2]


def test_no_tables(account: Account) -> None:
    done = account.editctl("plan")
    assert (done.exit_code, done.stdout) == (1, "")
    what, _, todo = three(done.stderr)
    assert what == f"error: no DynamoDB table named '{account.names.sessions}' in us-east-1"
    assert "editctl tables create" in todo


@pytest.mark.parametrize("command", ["plan", "status", "apply"])
def test_a_wrong_table(ready: Account, command: str) -> None:
    done = ready.editctl(command, "--containers-table", "nope")
    assert done.exit_code == 1
    what, _, todo = three(done.stderr)
    assert what == "error: no DynamoDB table named 'nope' in us-east-1"
    assert "set EDITCTL_CONTAINERS_TABLE" in todo


def test_a_table_of_another_kind(ready: Account) -> None:
    ready.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    done = ready.editctl("plan", "--sessions-table", ready.names.containers)
    assert done.exit_code == 1
    assert "cannot be used: its key is containerId, not sessionId alone" in three(done.stderr)[0]


def test_a_wrong_cluster(ready: Account) -> None:
    done = ready.editctl("plan", EDITCTL_CLUSTER="webordinry")
    assert done.exit_code == 1
    what, why, todo = three(done.stderr)
    assert what == "error: no ECS cluster named 'webordinry' in us-east-1"
    assert why.startswith("  clusters here: ")
    assert todo == "  set --cluster or EDITCTL_CLUSTER; `editctl config` shows where the value came from"


def test_a_wrong_region(ready: Account) -> None:
    done = run(App(), "plan", env={**ready.env, "AWS_REGION": "us-west-2"})
    assert done.exit_code == 1
    assert three(done.stderr)[0] == f"error: no DynamoDB table named '{ready.names.sessions}' in us-west-2"


def test_a_wrong_task_definition_is_said_before_anything_is_begun(ready: Account) -> None:
    ready.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    done = ready.editctl("apply", "--task-definition", "nope")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no ACTIVE task definition 'nope'" in three(done.stderr)[0]


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_credentials_that_aws_refuses(ready: Account, code: str) -> None:
    for operation in ("ListTasks", "DescribeClusters", "ListClusters"):
        ready.endpoint.ecs.faults.fail(operation, code, times=5, message="The security token is expired: FwoGZXIvYXdzE")
    done = ready.editctl("plan")
    assert (done.exit_code, done.stdout) == (1, "")
    what, why, todo = three(done.stderr)
    assert "credentials" in what
    assert ("expired" in why) == (code == "ExpiredTokenException")
    assert "AWS_PROFILE" in todo
    assert "FwoGZXIvYXdzE" not in done.output


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    done = run(App(), "plan")
    assert (done.exit_code, done.stdout) == (1, "")
    assert three(done.stderr) == (
        "error: there are no AWS credentials",
        "  neither environment, profile, container nor instance role gave any",
        "  set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso login`",
    )


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    done = run(App(), "plan")
    assert done.exit_code == 1
    assert three(done.stderr)[0] == "error: no AWS region is set"


def test_a_local_endpoint_takes_no_credentials_and_no_region(monkeypatch: pytest.MonkeyPatch, ready: Account) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    done = run(App(), "plan", env=ready.env)
    assert done.exit_code == 0, done.output
    [remark] = done.stderr.splitlines()
    assert remark == (
        f"profile local ({ready.endpoint.url}): subnets subnet-local, security groups sg-local, any credentials"
    )


def test_nobody_answers(account: Account) -> None:
    done = run(App(), "plan", env={**account.env, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"})
    assert (done.exit_code, done.stdout) == (1, "")
    assert three(done.stderr)[0] == "error: nobody answers at http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("args", "what", "why"),
    [
        (("pln",), "error: there is no command 'pln'", "  did you mean editctl plan?"),
        (("plan", "--jsn"), "error: no such option '--jsn'", "  did you mean one of: '--json'"),
        (("explain",), "error: missing argument 'CONTAINER'", "  usage: editctl explain [OPTIONS] CONTAINER"),
        (("session", "opn"), "error: no such command 'opn'", ""),
    ],
)
def test_wrong_usage_is_1(lab: Lab, args: tuple[str, ...], what: str, why: str) -> None:
    done = lab.editctl(*args)
    assert (done.exit_code, done.stdout) == (1, "")
    lines = three(done.stderr)
    assert lines[0] == what
    assert lines[1].startswith(why)
    assert lines[2].endswith("--help says more")


def test_nothing_at_all_is_wrong_usage_and_shows_the_help(lab: Lab) -> None:
    done = lab.editctl()
    assert (done.exit_code, done.stdout) == (1, "")
    assert "Usage: editctl" in done.stderr


def test_a_setting_out_of_range(lab: Lab) -> None:
    done = lab.editctl("plan", "--idle-timeout", "1s")
    assert done.exit_code == 1
    assert three(done.stderr) == (
        "error: --idle-timeout is '1s'",
        "  it may be 10s to 7d",
        "  set --idle-timeout or EDITCTL_IDLE_TIMEOUT, e.g. 20m",
    )


def test_an_unknown_variable_is_a_warning(account: Account) -> None:
    done = account.editctl("config", EDITCTL_IDEL_TIMEOUT="20m")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[0] == (
        "warning: EDITCTL_IDEL_TIMEOUT is no setting and has no effect; did you mean EDITCTL_IDLE_TIMEOUT?"
    )


def test_a_fault_of_ours_is_three_lines_too_and_a_traceback_only_with_debug(lab: Lab) -> None:
    lab.tables.fail("read_notes", ZeroDivisionError("\x1b[31mno"), times=4)  # type: ignore[arg-type]
    done = lab.editctl("plan")
    assert done.exit_code == 1
    assert three(done.stderr)[0] == "error: unexpected ZeroDivisionError: \\x1b[31mno"
    assert "Traceback" in lab.editctl("plan", "--debug").stderr
    assert "Traceback" in lab.editctl("--debug", "plan").stderr
