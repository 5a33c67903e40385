"""`editctl tables`, `config` and `local`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controller.assembly import Assembly
from controller.config import Config, settings
from controller.errors import ConfigError
from tests.cli.lab import Account, Lab
from tests.cli.schema import problems


def test_tables_create_can_be_repeated(account: Account) -> None:
    first, second = account.editctl("tables", "create"), account.editctl("tables", "create")
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert first.stdout.count("+ made") == 5
    assert second.stdout.count("= there") == 5
    assert second.stdout.splitlines()[-1] == "Next: editctl plan"
    assert account.editctl("plan").exit_code == 0


def test_config_says_where_each_value_came_from(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "editctl.toml").write_text('orphan_grace = "10m"\nidle_timeout = "3h"\n', encoding="utf-8")
    done = account.editctl("config", "--save-hold", "1h30m", EDITCTL_IDLE_TIMEOUT="1h")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["EDITCTL_SAVE_HOLD"] == ["1h30m", "flag"]
    assert rows["EDITCTL_IDLE_TIMEOUT"] == ["1h", "environment"]
    assert rows["EDITCTL_ORPHAN_GRACE"] == ["10m", "editctl.toml"]
    assert rows["EDITCTL_SUBNETS"] == ["subnet-local", "profile", "local"]
    assert rows["EDITCTL_POLL"] == ["10s", "default"]
    assert done.stdout.splitlines()[-1] == "What each means: editctl config --explain"


def test_config_shows_no_secret(account: Account) -> None:
    secret = "s3cr3t" * 8
    for args in ((), ("--json",), ("--explain",)):
        done = account.editctl("config", *args, EDITCTL_CHANNEL_SECRET=secret)
        assert done.exit_code == 0
        assert secret not in done.output
    row = next(
        line
        for line in account.editctl("config", EDITCTL_CHANNEL_SECRET=secret).stdout.splitlines()
        if "SECRET " in line
    )
    assert row.split() == ["EDITCTL_CHANNEL_SECRET", "set", "environment"]


def test_config_json_is_as_documented(account: Account) -> None:
    document = json.loads(account.editctl("config", "--json").stdout)
    assert problems(document, "config") == []
    assert document["settings"].keys() == {s.name for s in settings()}
    assert document["settings"]["channel_secret"]["flag"] is None


def test_config_explains_every_setting(account: Account) -> None:
    done = account.editctl("config", "--explain")
    assert all(s.variable in done.stdout and s.description in done.stdout for s in settings())


def test_the_port_is_in_use(lab: Lab) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        done = lab.editctl("local", "--port", str(port))
    assert (done.exit_code, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert (len(lines), lines[0]) == (3, f"error: cannot listen on 127.0.0.1:{port}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_local_says_what_to_do_and_stays_until_it_is_told(number: signal.Signals) -> None:
    command = [sys.executable, "-c", "from controller.cli.main import main; main()", "local", "--port", "0"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0].startswith("AWS is at http://127.0.0.1:")
        assert lines[2].startswith("  export AWS_ENDPOINT_URL=http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(10) == 0


def test_who_only_looks_needs_no_channel_secret(monkeypatch):
    """The secret can drain containers; a plan does without, and whoever starts containers is told to set it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assembly = Assembly(Config(agent_port=8700, subnets=("subnet-1",)), local=True)
    assert assembly.planner()
    with pytest.raises(ConfigError, match="no channel secret"):
        assembly.reconciler()
