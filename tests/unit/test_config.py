"""Settings: which source wins, what a value may be, and what is said when it is not."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config import (
    LOCAL_PROFILE,
    Config,
    Refused,
    StopBudget,
    duration_text,
    load,
    local_endpoint,
    parse_duration,
    settings,
    shown,
)
from controller.core.model import DAY, HOUR, MINUTE, SECOND
from controller.core.policy import Policy
from controller.errors import ConfigError

CLUSTER_ARN = "arn:aws:ecs:eu-west-1:123456789012:cluster/blue"

# What people have written into environments and manifests: names and defaults are an interface.
DEFAULTS = {
    "EDITCTL_CLUSTER": "webordinary",
    "EDITCTL_CONTROLLER_ID": "default",
    "EDITCTL_SESSIONS_TABLE": "webordinary-edit-sessions",
    "EDITCTL_CONTAINERS_TABLE": "webordinary-containers",
    "EDITCTL_CONTROLLER_TABLE": "webordinary-controller",
    "EDITCTL_TASK_DEFINITION": "webordinary-edit",
    "EDITCTL_CONTAINER_NAME": "edit-container",
    "EDITCTL_FAMILY_PER_PROJECT": "false",
    "EDITCTL_SUBNETS": "none",
    "EDITCTL_SECURITY_GROUPS": "none",
    "EDITCTL_ASSIGN_PUBLIC_IP": "DISABLED",
    "EDITCTL_LAUNCH_TYPE": "FARGATE",
    "EDITCTL_AGENT_PORT": "none",
    "EDITCTL_CHANNEL_SECRET": "none",
    "EDITCTL_CHANNEL_SECRET_FILE": "none",
    "EDITCTL_IDLE_TIMEOUT": "20m",
    "EDITCTL_ORPHAN_GRACE": "5m",
    "EDITCTL_ORIGINAL_SESSION_MAX_AGE": "12h",
    "EDITCTL_SAVE_HOLD": "2h",
    "EDITCTL_DRAIN_DEADLINE": "5m",
    "EDITCTL_ORIGINAL_WRITERS": "true",
    "EDITCTL_RESYNC": "10m",
    "EDITCTL_POLL": "10s",
    "EDITCTL_HINT_QUEUE_URL": "none",
    "EDITCTL_STOP_BUDGET": "10,10%",
    "EDITCTL_START_BUDGET": "none",
    "EDITCTL_MIRROR": "true",
    "EDITCTL_METRICS_ADDRESS": "127.0.0.1:9464",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder without a configuration file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(**flags: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(flags)
    return caught.value.lines()


def test_names_and_defaults():
    loaded = load()
    assert {s.variable: shown(getattr(loaded.config, s.name), s.takes) for s in settings()} == DEFAULTS
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.warnings == ()


def test_each_default_is_a_value_that_may_be_written():
    for setting in settings():
        text = shown(setting.default, setting.takes)
        if text != "none":
            assert getattr(load({setting.name: text}).config, setting.name) == setting.default


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(elsewhere, monkeypatch):
    (elsewhere / "editctl.toml").write_text('poll = "3s"\nresync = "3m"\nidle_timeout = "3m"\n')
    monkeypatch.setenv("EDITCTL_POLL", "2s")
    monkeypatch.setenv("EDITCTL_RESYNC", "2m")
    loaded = load({"poll": "1s", "resync": None})
    assert (loaded.config.poll, loaded.config.resync, loaded.config.idle_timeout) == (SECOND, 2 * MINUTE, 3 * MINUTE)
    assert [loaded.sources[n] for n in ("poll", "resync", "idle_timeout", "cluster")] == [
        "flag",
        "environment",
        "editctl.toml",
        "default",
    ]


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    monkeypatch.setenv("EDITCTL_CLUSTER", "")
    assert load().config.cluster == "webordinary"


def test_a_file_that_is_named_must_be_there(elsewhere, monkeypatch):
    (elsewhere / "other.toml").write_text('cluster = "blue"\n')
    assert load(file="other.toml").config.cluster == "blue"
    monkeypatch.setenv("EDITCTL_CONFIG", "missing.toml")
    assert load(file="other.toml").config.cluster == "blue"
    with pytest.raises(ConfigError, match=r"EDITCTL_CONFIG is 'missing\.toml'"):
        load()


def test_types_of_toml(elsewhere):
    (elsewhere / "editctl.toml").write_text(
        'subnets = ["subnet-1", "subnet-2"]\nfamily_per_project = true\nagent_port = 8642\nstop_budget = 5\n'
    )
    config = load().config
    assert config.subnets == ("subnet-1", "subnet-2")
    assert (config.family_per_project, config.agent_port, config.stop_budget) == (True, 8642, StopBudget(5, 0.0))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('idel_timeout = "3s"', ("'idel_timeout' in editctl.toml is no setting", "did you mean idle_timeout?")),
        ("xyzzy = 1", ("'xyzzy' in editctl.toml is no setting", "nothing that it resembles is one")),
        (
            "idle_timeout = 20",
            (
                "idle_timeout in editctl.toml is '20'",
                "durations carry a unit: 90s, 20m, 2h",
                'write idle_timeout = "20m"',
            ),
        ),
        ("cluster = 3", ("cluster in editctl.toml is '3'",)),
        ("cluster =", ("'editctl.toml' cannot be read",)),
    ],
)
def test_what_is_wrong_in_a_file(elsewhere, text, lines):
    (elsewhere / "editctl.toml").write_text(text + "\n")
    assert refusal()[: len(lines)] == lines


def test_an_unknown_variable_is_a_warning_that_names_the_nearest(monkeypatch):
    monkeypatch.setenv("EDITCTL_IDEL_TIMEOUT", "20m")
    monkeypatch.setenv("EDITCTL_CONFIG", "")
    assert load().warnings == (
        "EDITCTL_IDEL_TIMEOUT is no setting and has no effect; did you mean EDITCTL_IDLE_TIMEOUT?",
    )


# What a value may be


def test_a_refusal_names_value_source_and_way_out(monkeypatch):
    monkeypatch.setenv("EDITCTL_IDLE_TIMEOUT", "20")
    assert refusal() == (
        "EDITCTL_IDLE_TIMEOUT is '20'",
        "durations carry a unit: 90s, 20m, 2h",
        "set --idle-timeout or EDITCTL_IDLE_TIMEOUT, e.g. 20m",
    )


def test_several_refusals_are_counted():
    assert refusal(idle_timeout="20", poll="1h")[0] == "--idle-timeout is '20'; 1 more is wrong"
    assert refusal(idle_timeout="20", poll="1h", resync="x")[0] == "--idle-timeout is '20'; 2 more are wrong"


def test_a_value_cannot_forge_lines():
    assert refusal(cluster="a\nerror: b")[0] == "--cluster is 'a\\nerror: b'"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agent_port", "0"),
        ("agent_port", "65536"),
        ("agent_port", "x"),
        ("assign_public_ip", "yes"),
        ("channel_secret", "short"),
        ("cluster", "a b"),
        ("container_name", ""),
        ("controller_id", "a/b"),
        ("drain_deadline", "2h"),
        ("family_per_project", "perhaps"),
        ("hint_queue_url", "queue"),
        ("idle_timeout", "8d"),
        ("launch_type", "fargat"),
        ("metrics_address", "9464"),
        ("orphan_grace", "1s"),
        ("original_session_max_age", "1m"),
        ("poll", "0s"),
        ("resync", "25h"),
        ("save_hold", "3d"),
        ("security_groups", "sg1"),
        ("sessions_table", "x"),
        ("start_budget", "0"),
        ("stop_budget", "101%"),
        ("stop_budget", ""),
        ("stop_budget", "5,"),
        ("subnets", "subnet-1;subnet-2"),
        ("task_definition", "a:b"),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    what, why, todo = refusal(**{name: value})
    assert what.startswith(f"--{name.replace('_', '-')} is ") or name == "channel_secret"
    assert why
    assert todo.startswith("set ")


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("agent_port", "8642", 8642),
        ("assign_public_ip", "enabled", "ENABLED"),
        (
            "cluster",
            "arn:aws:ecs:eu-west-1:123456789012:cluster/blue",
            "arn:aws:ecs:eu-west-1:123456789012:cluster/blue",
        ),
        ("family_per_project", "on", True),
        ("idle_timeout", "1h30m", 90 * MINUTE),
        ("metrics_address", "off", "off"),
        ("save_hold", "0s", 0),
        ("start_budget", "none", None),
        ("start_budget", "30", 30),
        ("stop_budget", "5%", StopBudget(1, 0.05)),
        ("stop_budget", "20", StopBudget(20, 0.0)),
        ("stop_budget", "3, 20%", StopBudget(3, 0.2)),
        ("subnets", "subnet-1, subnet-2,", ("subnet-1", "subnet-2")),
        ("task_definition", "webordinary-edit:17", "webordinary-edit:17"),
    ],
)
def test_values_that_may_be(name, value, meant):
    assert getattr(load({name: value}).config, name) == meant


@pytest.mark.parametrize(
    ("text", "meant"), [("90s", 90 * SECOND), ("20m", 20 * MINUTE), ("2h", 2 * HOUR), ("1d2h", 26 * HOUR), ("0s", 0)]
)
def test_durations(text, meant):
    assert parse_duration(text) == meant


@pytest.mark.parametrize("text", ["", " ", "20", "m", "1.5h", "-1m", "2m1h", "1h 30m", "20M", "1e3s", "٣m"])
def test_what_is_no_duration(text):
    with pytest.raises(Refused):
        parse_duration(text)


@given(st.integers(0, 7 * DAY // SECOND))
def test_a_duration_is_shown_as_it_can_be_written(seconds):
    assert parse_duration(duration_text(seconds * SECOND)) == seconds * SECOND


# Secrets


def test_a_secret_is_never_shown(monkeypatch):
    secret = "s3cr3t" * 8
    monkeypatch.setenv("EDITCTL_CHANNEL_SECRET", secret)
    config = load().config
    assert config.secret() == secret
    assert secret not in repr(config)
    assert shown(config.channel_secret, "SECRET") == "set"
    monkeypatch.setenv("EDITCTL_CHANNEL_SECRET", "too-short")
    assert "too-short" not in "".join(refusal())


def test_a_secret_from_a_file(elsewhere):
    path = elsewhere / "secret"
    path.write_text("x" * 40 + "\n")
    assert load({"channel_secret_file": str(path)}).config.secret() == "x" * 40
    path.write_text("short")
    with pytest.raises(ConfigError, match="too short"):
        load({"channel_secret_file": str(path)}).config.secret()
    with pytest.raises(ConfigError, match="cannot be read"):
        load({"channel_secret_file": str(elsewhere / "none")}).config.secret()
    assert load().config.secret() is None


def test_the_secret_has_no_flag():
    assert [s.name for s in settings() if not s.has_flag] == ["channel_secret"]


# The profile for an endpoint on this machine


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:4580", True),
        ("http://localhost:4566", True),
        ("http://[::1]:4566", True),
        ("http://127.0.0.1.example.com", False),
        ("http://10.0.0.1:4566", False),
        ("https://ecs.eu-west-1.amazonaws.com", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_which_endpoints_are_on_this_machine(url, local):
    assert local_endpoint({"AWS_ENDPOINT_URL": url}) == (url if local else None)


def test_the_profile_fills_in_what_a_local_endpoint_takes(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4580")
    monkeypatch.setenv("EDITCTL_SUBNETS", "subnet-mine")
    loaded = load()
    assert loaded.config.subnets == ("subnet-mine",)
    assert loaded.config.security_groups == ("sg-local",)
    assert loaded.from_profile == ("security_groups",)
    assert loaded.sources["security_groups"] == LOCAL_PROFILE
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.1")
    assert load().from_profile == ()


def test_the_policy_is_made_of_the_settings():
    config = load({"idle_timeout": "1h", "orphan_grace": "6m", "drain_deadline": "1m", "stop_budget": "7,20%"}).config
    policy = config.policy()
    assert (policy.idle_timeout, policy.orphan_grace, policy.drain_deadline) == (HOUR, 6 * MINUTE, MINUTE)
    assert (policy.stop_budget, policy.stop_budget_share) == (7, 0.2)
    assert Config().policy() == Policy()


def test_every_part_of_the_policy_with_a_setting_of_its_name_gets_it():
    shared = {f.name for f in fields(Policy)} & set(Config.model_fields) - {"stop_budget"}
    for name in shared:
        setting = next(s for s in settings() if s.name == name)
        value = "13m" if setting.takes == "DURATION" else "false"
        config = load({name: value}).config
        assert getattr(config.policy(), name) == getattr(config, name) != setting.default, name
