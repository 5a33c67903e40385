"""Every setting of editctl: its name, default, range and meaning, and where its value came from.

A flag beats `EDITCTL_*` in the environment, that beats `editctl.toml`, that beats the profile `local` (for an endpoint
on this machine), that beats the default. AWS access is boto3's own and is not repeated here.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from controller.core.identity import check_controller_id
from controller.core.model import DAY, HOUR, MINUTE, SECOND, Millis
from controller.core.policy import Policy
from controller.errors import ConfigError, InvalidIdentity

PREFIX = "EDITCTL_"
CONFIG_VARIABLE = "EDITCTL_CONFIG"
FILE_NAME = "editctl.toml"
LOCAL_PROFILE = "profile local"
DEFAULT = "default"

_UNIT: Mapping[str, Millis] = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND}
_DURATION = re.compile(r"(?:(?P<d>\d{1,9})d)?(?:(?P<h>\d{1,9})h)?(?:(?P<m>\d{1,9})m)?(?:(?P<s>\d{1,9})s)?", re.ASCII)
_NAME = r"[A-Za-z0-9_-]{1,255}"
_ARN = r"arn:[a-z0-9-]+:[a-z]+:[^\s:]*:[^\s:]*:[^\s]+"


class Refused(ValueError):
    """A value that a setting does not take: why, and an example of what it takes."""

    def __init__(self, why: str, example: str) -> None:
        super().__init__(why)
        self.why = why
        self.example = example


# What a value may be


def parse_duration(value: object) -> Millis:
    """Return milliseconds for `90s`, `20m`, `2h`, `1h30m`, `7d`. Raises Refused."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) and value.strip() else None
    if match is None:
        raise Refused("durations carry a unit: 90s, 20m, 2h", "20m")
    return sum(int(n) * _UNIT[unit] for unit, n in match.groupdict().items() if n is not None)


def duration_text(ms: Millis) -> str:
    """Return the text that `parse_duration` reads as so much, in whole seconds."""
    parts = []
    for unit, size in _UNIT.items():
        n, ms = divmod(ms, size)
        if n:
            parts.append(f"{n}{unit}")
    return "".join(parts) or "0s"


def _within(low: Millis, high: Millis, example: str) -> AfterValidator:
    def check(value: Millis) -> Millis:
        if not low <= value <= high:
            raise Refused(f"it may be {duration_text(low)} to {duration_text(high)}", example)
        return value

    return AfterValidator(check)


def _matching(pattern: str, takes: str, example: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str | None) -> str | None:
        if value is not None and not compiled.fullmatch(value):
            raise Refused(takes, example)
        return value

    return AfterValidator(check)


def _one_of(*words: str) -> BeforeValidator:
    def check(value: object) -> str:
        found = next((w for w in words if isinstance(value, str) and value.strip().upper() == w), None)
        if found is None:
            raise Refused(f"it may be {' or '.join(words)}", words[0])
        return found

    return BeforeValidator(check)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if not isinstance(value, str) or value.strip().lower() not in words:
        raise Refused("it is true or false", "true")
    return words[value.strip().lower()]


def _listed(pattern: str, takes: str, example: str) -> BeforeValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> tuple[str, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(i, str) for i in items):
            raise Refused(takes, example)
        names = tuple(i.strip() for i in items if i.strip())
        if not all(compiled.fullmatch(n) for n in names):
            raise Refused(takes, example)
        return names

    return BeforeValidator(check)


def _controller_id(value: str) -> str:
    try:
        return check_controller_id(value)
    except InvalidIdentity as error:
        raise Refused(error.why, DEFAULT) from error


def _port(value: object) -> int | None:
    if value is None or value == "":
        return None
    text = str(value)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise Refused("a port is a number from 1 to 65535", "8642")
    return int(text)


def _secret(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < _SHORTEST_SECRET:
        raise Refused(f"a secret of fewer than {_SHORTEST_SECRET} characters can be guessed", "$(openssl rand -hex 32)")
    return value


_SHORTEST_SECRET = 32


@dataclass(frozen=True, slots=True)
class StopBudget:
    """How many stops five minutes may have: the greater of a number and a share of the live tasks."""

    number: int
    share: float

    def __str__(self) -> str:
        return ",".join([str(self.number), *([f"{self.share * 100:g}%"] if self.share else [])])


def _stop_budget(value: object) -> StopBudget:
    if isinstance(value, StopBudget):
        return value
    match = re.fullmatch(r"(\d{1,6})?(?:(?:^|,)(\d{1,3})%)?", str(value).replace(" ", ""), re.ASCII)
    if match is None or not any(match.groups()) or int(match[2] or 0) > 100:
        raise Refused("it is a number of stops, a share of the live tasks, or both: the greater counts", "10,10%")
    # A share alone would let a small fleet stop nothing at all.
    return StopBudget(int(match[1]) if match[1] else 1, int(match[2] or 0) / 100)


def _start_budget(value: object) -> int | None:
    if value is None or str(value).strip() in ("", "none"):
        return None
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1_000_000):
        raise Refused("it is a number of starts in 5 minutes; without it ECS's own quota is the limit", "100")
    return int(text)


def _address(value: str) -> str:
    if value == "off":
        return value
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise Refused("it is a host and a port, or off", "127.0.0.1:9464")
    return value


def _url(value: str | None) -> str | None:
    parts = urlsplit(value or "")
    if value and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise Refused("it is the URL of an SQS queue", "https://sqs.eu-west-1.amazonaws.com/123456789012/hints")
    return value or None


# The settings


def _setting(default: Any, description: str, *, takes: str = "TEXT", flag: bool = True) -> Any:
    extra: dict[str, Any] = {"takes": takes, "flag": flag}
    return Field(default, description=description, validate_default=False, json_schema_extra=extra)


_Cluster = Annotated[str, _matching(f"{_NAME}|{_ARN}", "it is the name or the ARN of an ECS cluster", "webordinary")]
_Table = Annotated[
    str, _matching(rf"[A-Za-z0-9_.-]{{3,255}}|{_ARN}", "it is a DynamoDB table name", "webordinary-containers")
]
_Definition = Annotated[
    str, _matching(rf"{_NAME}(:\d+)?|{_ARN}", "it is a family, or one with a revision", "webordinary-edit")
]
_ContainerName = Annotated[str, _matching(_NAME, "it is a container of the task definition", "edit-container")]
_Subnets = Annotated[
    tuple[str, ...],
    NoDecode,
    _listed(r"subnet-[A-Za-z0-9-]+", "it is a comma list of subnet ids", "subnet-0a1b2c3d,subnet-4e5f6a7b"),
]
_Groups = Annotated[
    tuple[str, ...], NoDecode, _listed(r"sg-[A-Za-z0-9-]+", "it is a comma list of security groups", "sg-0a1b2c3d")
]
_Duration = Annotated[int, BeforeValidator(parse_duration)]
_Boolean = Annotated[bool, BeforeValidator(_boolean)]


class Config(BaseSettings):
    """The settings of one installation. Durations are milliseconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    cluster: _Cluster = _setting("webordinary", "ECS cluster name or ARN", takes="NAME")
    controller_id: Annotated[str, AfterValidator(_controller_id)] = _setting(
        "default", "whose tasks these are; two installations in one account use two", takes="ID"
    )
    sessions_table: _Table = _setting("webordinary-edit-sessions", "table of the open sessions", takes="NAME")
    containers_table: _Table = _setting("webordinary-containers", "table of the containers' records", takes="NAME")
    controller_table: _Table = _setting("webordinary-controller", "table of the controller's own notes", takes="NAME")
    task_definition: _Definition = _setting(
        "webordinary-edit", "task-definition family, or a pinned revision", takes="NAME"
    )
    container_name: _ContainerName = _setting(
        "edit-container", "container of the definition that gets the environment", takes="NAME"
    )
    family_per_project: _Boolean = _setting(False, "a task-definition family for each client and project", takes="BOOL")
    subnets: _Subnets = _setting((), "subnets of new tasks; needed to start", takes="LIST")
    security_groups: _Groups = _setting((), "security groups of new tasks; needed to start", takes="LIST")
    assign_public_ip: Annotated[str, _one_of("DISABLED", "ENABLED")] = _setting(
        "DISABLED", "public addresses for new tasks: ENABLED or DISABLED", takes="WORD"
    )
    launch_type: Annotated[str, _one_of("FARGATE", "EC2", "EXTERNAL", "MANAGED_INSTANCES")] = _setting(
        "FARGATE", "where ECS runs new tasks", takes="WORD"
    )
    agent_port: Annotated[int | None, BeforeValidator(_port)] = _setting(
        None, "port of the agent in the containers; none: no agent is asked", takes="PORT"
    )
    channel_secret: Annotated[SecretStr | None, AfterValidator(_secret)] = _setting(
        None, "secret of the control channel; never a flag", takes="SECRET", flag=False
    )
    channel_secret_file: str | None = _setting(None, "file that holds the secret of the control channel", takes="FILE")
    idle_timeout: Annotated[_Duration, _within(10 * SECOND, 7 * DAY, "20m")] = _setting(
        20 * MINUTE, "quiet time after which a container is idle", takes="DURATION"
    )
    orphan_grace: Annotated[_Duration, _within(MINUTE, DAY, "5m")] = _setting(
        5 * MINUTE, "age below which a task without an owner is left alone", takes="DURATION"
    )
    original_session_max_age: Annotated[_Duration, _within(10 * MINUTE, 7 * DAY, "12h")] = _setting(
        12 * HOUR, "how long a row of the original writer keeps its container", takes="DURATION"
    )
    save_hold: Annotated[_Duration, _within(0, 2 * DAY, "2h")] = _setting(
        2 * HOUR, "how long a container whose work is not saved is kept", takes="DURATION"
    )
    drain_deadline: Annotated[_Duration, _within(10 * SECOND, HOUR, "5m")] = _setting(
        5 * MINUTE, "how long a drain waits for the agent", takes="DURATION"
    )
    original_writers: _Boolean = _setting(
        True, "false: only editctl's library writes sessions, so stops need no Scan", takes="BOOL"
    )
    resync: Annotated[_Duration, _within(MINUTE, DAY, "10m")] = _setting(
        10 * MINUTE, "time between two complete looks", takes="DURATION"
    )
    poll: Annotated[_Duration, _within(SECOND, 10 * MINUTE, "10s")] = _setting(
        10 * SECOND, "time between two looks at the tables", takes="DURATION"
    )
    hint_queue_url: Annotated[str | None, AfterValidator(_url)] = _setting(
        None, "SQS queue that says which containers to look at", takes="URL"
    )
    stop_budget: Annotated[StopBudget, BeforeValidator(_stop_budget)] = _setting(
        StopBudget(10, 0.10), "stops in 5 minutes: a number, a share of live tasks, or the greater", takes="N,N%"
    )
    start_budget: Annotated[int | None, BeforeValidator(_start_budget)] = _setting(
        None, "starts in 5 minutes; none: ECS's own quota", takes="N"
    )
    mirror: _Boolean = _setting(
        True, "with --kubernetes: what only sessions ask for is shown as objects, too", takes="BOOL"
    )
    metrics_address: Annotated[str, AfterValidator(_address)] = _setting(
        "127.0.0.1:9464", "where `run` serves metrics and probes, or off", takes="HOST:PORT"
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` reads the sources itself: it has to say afterwards which of them a value came from.
        return (init_settings,)

    def policy(self) -> Policy:
        """Return what of this the planner needs."""
        return Policy(
            idle_timeout=self.idle_timeout,
            orphan_grace=self.orphan_grace,
            original_session_max_age=self.original_session_max_age,
            drain_deadline=self.drain_deadline,
            stop_budget=self.stop_budget.number,
            stop_budget_share=self.stop_budget.share,
            save_hold=self.save_hold,
            agents=self.agent_port is not None,
            # Without the original's writers the strong look is no Scan, and need not be spared.
            look_interval_most=Policy().look_interval_most if self.original_writers else 0,
        )

    def channel_keys(self) -> dict[str, bytes]:
        """Return the channel secrets by key id, the one for new launches first; empty without an agent port.

        Several secrets, separated by white space, are a rotation: the first is the new one, the others open the
        agents that were launched with them. Raises ConfigError when there is a port and no secret.
        """
        if self.agent_port is None:
            return {}
        secrets = (self.secret() or "").split()
        if not secrets:
            raise ConfigError(
                f"agent port {self.agent_port} is set and no channel secret",
                "without a secret anybody in the network could drain a container",
                "set EDITCTL_CHANNEL_SECRET_FILE; openssl rand -hex 32 makes one",
            )
        return {hashlib.sha256(s.encode()).hexdigest()[:8]: s.encode() for s in secrets}

    def secret(self) -> str | None:
        """Return the channel secret, from the setting or from its file. Raises ConfigError."""
        if self.channel_secret is not None:
            return self.channel_secret.get_secret_value()
        return None if self.channel_secret_file is None else _read_secret(Path(self.channel_secret_file))


def _read_secret(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not text"
        raise ConfigError(
            f"the channel secret in '{path}' cannot be read", why, "correct EDITCTL_CHANNEL_SECRET_FILE"
        ) from error
    if len(text) < _SHORTEST_SECRET:
        raise ConfigError(
            f"the channel secret in '{path}' is too short",
            f"a secret of fewer than {_SHORTEST_SECRET} characters can be guessed",
            f"openssl rand -hex 32 > {path}",
        )
    return text


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of a setting without its value."""

    name: str
    description: str
    takes: str
    has_flag: bool
    default: Any

    @property
    def flag(self) -> str:
        """`--idle-timeout`"""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """`EDITCTL_IDLE_TIMEOUT`"""
        return PREFIX + self.name.upper()


def settings() -> tuple[Setting, ...]:
    """Return every setting, in the order in which they are documented."""
    return tuple(_described(name, field) for name, field in Config.model_fields.items())


def _described(name: str, field: FieldInfo) -> Setting:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return Setting(name, field.description or "", str(extra["takes"]), bool(extra["flag"]), field.default)


def shown(value: Any, takes: str) -> str:
    """Return a setting's value as it can be written again; a secret as `set`."""
    if isinstance(value, SecretStr):
        return "set"
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return duration_text(value) if takes == "DURATION" else str(value)


# Settings as others write them


def printed_name(setting: Setting) -> str:
    """Return what a CloudFormation stack prints the setting as: `Cluster`, `HintQueueUrl`."""
    return "".join(word.capitalize() for word in setting.name.split("_"))


def from_outputs(outputs: Mapping[str, str], source: str) -> dict[str, str]:
    """Return the settings that are among what a stack prints, checked. Raises ConfigError for a value that cannot be.

    A secret is never taken from there: outputs can be read by whoever may describe the stack.
    """
    by_name = {printed_name(s): s for s in settings() if s.has_flag}
    found: dict[str, Any] = {by_name[key].name: value for key, value in outputs.items() if key in by_name and value}
    layer = _Layer(source, found, lambda s: f"{printed_name(s)} of {source}")
    try:
        Config(**found)
    except ValidationError as error:
        raise _wrong(error, found, dict.fromkeys(found, layer)) from None
    return found


def toml_line(name: str, value: str) -> str:
    """Return a setting as a line of `editctl.toml`; a JSON text is a TOML one, too."""
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


# Where values come from


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, the source of each value, and what is odd about the sources but no error."""

    config: Config
    sources: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    local_endpoint: str | None = None
    """The endpoint on this machine that the profile `local` applies to, when there is one."""

    @property
    def from_profile(self) -> tuple[str, ...]:
        """The settings that the profile `local` filled in."""
        return tuple(name for name, source in self.sources.items() if source == LOCAL_PROFILE)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of values; `called` is what a setting is called there, for sentences."""

    name: str
    values: Mapping[str, Any]
    called: Callable[[Setting], str]


def load(flags: Mapping[str, Any] | None = None, *, file: str | None = None) -> Loaded:
    """Return the settings from all sources. Raises ConfigError, which names the value, its source and what to do.

    flags: setting name to text, None for those that were not given. file: a configuration file that must be there,
    else EDITCTL_CONFIG, else `editctl.toml` in the working directory if there is one.
    """
    path = _file(file)
    endpoint = local_endpoint(os.environ)
    layers = (
        _Layer("flag", {k: v for k, v in (flags or {}).items() if v is not None}, lambda s: s.flag),
        _Layer("environment", _from_environment(), lambda s: s.variable),
        _Layer(str(path or FILE_NAME), _from_file(path), lambda s: f"{s.name} in {path}"),
        _Layer(LOCAL_PROFILE, _LOCAL if endpoint else {}, lambda s: s.name),
    )
    values: dict[str, Any] = {}
    found: dict[str, _Layer] = {}
    for layer in layers:
        for name, value in layer.values.items():
            if name not in values:
                values[name], found[name] = value, layer
    try:
        config = Config(**values)
    except ValidationError as error:
        raise _wrong(error, values, found) from None
    sources = {s.name: found[s.name].name if s.name in found else DEFAULT for s in settings()}
    return Loaded(config, sources, tuple(_unknown_variables(os.environ)), endpoint)


_LOCAL: Mapping[str, Any] = {"subnets": ("subnet-local",), "security_groups": ("sg-local",)}
"""What the local endpoint takes where AWS needs a real network."""


def local_endpoint(environment: Mapping[str, str]) -> str | None:
    """Return the URL that AWS_ENDPOINT_URL names when it is on this machine."""
    url = environment.get("AWS_ENDPOINT_URL", "")
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return None
    return url if host == "localhost" or _is_loopback(host) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _from_environment() -> Mapping[str, Any]:
    # An empty variable is an unset one: that is what `EDITCTL_X= editctl …` and empty manifests mean.
    return EnvSettingsSource(Config, env_ignore_empty=True)()


def _file(named: str | None) -> Path | None:
    text, source = (named, "--config") if named else (os.environ.get(CONFIG_VARIABLE), CONFIG_VARIABLE)
    if not text:
        found = Path(FILE_NAME)
        return found if found.is_file() else None
    if not Path(text).is_file():
        raise ConfigError(f"{source} is '{text}'", "there is no such file", "name a TOML file, or leave it out")
    return Path(text)


def _from_file(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"'{path}' cannot be read", str(error), "correct it; it is a TOML file") from error
    known = [s.name for s in settings()]
    for key in values:
        if key not in known:
            raise ConfigError(
                f"'{key}' in {path} is no setting", _nearest(key, known), "`editctl config` lists them all"
            )
    return values


def _unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    known = [CONFIG_VARIABLE, *(s.variable for s in settings())]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            yield f"{name} is no setting and has no effect; {_nearest(name, known)}"


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else "nothing that it resembles is one"


def _wrong(error: ValidationError, values: Mapping[str, Any], found: Mapping[str, _Layer]) -> ConfigError:
    """Return the first error as three lines that name value, source and way out."""
    problems = error.errors()
    problem = problems[0]
    name = str(problem["loc"][0])
    setting = next(s for s in settings() if s.name == name)
    refused = problem.get("ctx", {}).get("error")
    refused = refused if isinstance(refused, Refused) else Refused(f"it is not of the right type: {problem['msg']}", "")
    value = "not shown" if not setting.has_flag else _text(values[name])
    more = len(problems) - 1
    others = f"; {more} more {'is' if more == 1 else 'are'} wrong" if more else ""
    layer = found[name]
    way_out = _way_out(setting, refused, in_file=layer.name not in _OTHER_THAN_FILE)
    return ConfigError(f"{layer.called(setting)} is {value}{others}", refused.why, way_out)


_OTHER_THAN_FILE = ("flag", "environment", LOCAL_PROFILE)


def _text(value: Any) -> str:
    text = str(value)
    return "'" + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:200]) + "'"


def _way_out(setting: Setting, refused: Refused, *, in_file: bool) -> str:
    if in_file:
        return f'write {setting.name} = "{refused.example}"' if refused.example else f"correct {setting.name}"
    names = f"{setting.flag} or {setting.variable}" if setting.has_flag else setting.variable
    return f"set {names}" + (f", e.g. {refused.example}" if refused.example else "")
