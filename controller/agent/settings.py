"""What the agent is told: one value, read from the environment once.

Nothing in here comes from the workspace. docs/agent.md has the table of all variables.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from controller.agent.names import Refs, escaped_id, render
from controller.agent.protocol import ENV_PORT, ENV_TOKEN_SHA256
from controller.core.identity import (
    ENV_AUTO_SHUTDOWN,
    ENV_CONTAINER,
    ENV_WORKSPACE,
    ContainerIdentity,
    generation_from_environment,
    identity_from_environment,
)
from controller.errors import ConfigError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)([kmg]?)(?:i?b)?", re.IGNORECASE)
_SCP = re.compile(r"(?:[A-Za-z0-9_.-]+@)?[A-Za-z0-9_.-]+:(?!//)")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

HIDDEN = ("EDIT_CREDENTIAL_COMMAND", ENV_TOKEN_SHA256)
"""Variables that the workload does not get, beside those that EDIT_HIDE names."""


class SaveTo(StrEnum):
    """Where uncommitted work goes."""

    WIP = "wip"
    BRANCH = "branch"
    """Onto the user's branch, as the original script did; a push to it may deploy."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class User:
    """The user that the workload runs as, when the agent is root."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The agent's settings; durations in seconds."""

    identity: ContainerIdentity | None
    workspace: Path
    state: Path
    workdir: Path
    """Where the workload starts."""
    remote: str = ""
    branch: str = ""
    save_to: SaveTo = SaveTo.WIP
    push_branches: bool = True
    credential_command: str = ""
    credential_user: str = "x-access-token"
    ssh_command: str = ""
    ca_file: str = ""
    proxy: str = ""
    author: str = "edit agent <edit-agent@localhost>"
    user: User | None = None
    stop_timeout: float = 120
    save_share: float = 0.7
    """The part of the stop timeout that a save may take; the rest is for ECS and for clocks."""
    workload_grace: float = 10
    """How long the workload may go on after its SIGTERM before it is frozen."""
    launch_timeout: float = 600
    checkpoint_interval: float = 300
    save_timeout: float = 240
    """The most that a checkpoint or a drain's save may take."""
    allowed_outage: float = 7200
    """How long the controller may be silent before the agent acts on its own."""
    silence_limit: float = 86400
    """How long the agent goes on trying to save in silence before it ends unsaved."""
    idle_time: float = 1200
    """How long ago the last local activity must be before silence counts."""
    busy_max: float = 7200
    reserve: int = 32 << 20
    """Bytes kept aside on the state's disk, given up when it is full."""
    port: int | None = None
    address: str = ""
    token_sha256: str = ""
    generation: int | None = None
    task_arn: str = ""
    metadata_uri: str = ""
    hidden: tuple[str, ...] = HIDDEN

    @property
    def has_channel(self) -> bool:
        """Whether a controller talks to this agent, and so must admit it."""
        return self.port is not None and bool(self.token_sha256)

    @property
    def refs(self) -> Refs:
        """The refs of this container at the remote."""
        return Refs(escaped_id(self.identity) if self.identity else "unnamed")

    @property
    def scheme(self) -> str:
        """The one transport that git may use to reach the remote."""
        return _scheme(self.remote)

    @property
    def save_budget(self) -> float:
        """Seconds from SIGTERM to the end of the save."""
        return self.stop_timeout * self.save_share


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Return the settings. Raises ConfigError that names the variable."""
    read = _Reader(environment)
    identity = identity_from_environment(environment)
    if identity is None and environment.get(ENV_CONTAINER):
        raise ConfigError(
            f"{ENV_CONTAINER} is {environment[ENV_CONTAINER]!r} and does not name the container",
            "CLIENT_ID, PROJECT_ID, USER_ID and CONTAINER_ID must belong together",
            "the controller sets all of them at launch",
        )
    workspace = _absolute(ENV_WORKSPACE, environment.get(ENV_WORKSPACE, "/workspace"))
    settings = Settings(
        identity=identity,
        workspace=workspace,
        state=_absolute("EDIT_STATE_DIR", environment.get("EDIT_STATE_DIR", "/var/lib/edit-agent")),
        workdir=_absolute("EDIT_WORKDIR", environment.get("EDIT_WORKDIR") or str(workspace)),
        remote=_template("EDIT_REMOTE", environment, identity),
        branch=_template("EDIT_BRANCH", environment, identity),
        save_to=read.choice("EDIT_SAVE_TO", SaveTo.WIP),
        push_branches=read.flag("EDIT_PUSH_BRANCHES", default=True),
        credential_command=environment.get("EDIT_CREDENTIAL_COMMAND", ""),
        credential_user=environment.get("EDIT_CREDENTIAL_USER", "x-access-token"),
        ssh_command=environment.get("EDIT_SSH_COMMAND", ""),
        ca_file=environment.get("EDIT_CA_FILE", ""),
        proxy=environment.get("EDIT_PROXY", ""),
        author=_author(environment.get("EDIT_AUTHOR", "edit agent <edit-agent@localhost>")),
        user=_user(environment.get("EDIT_WORKLOAD_USER", "")),
        stop_timeout=read.seconds("EDIT_STOP_TIMEOUT", 120),
        workload_grace=read.seconds("EDIT_WORKLOAD_GRACE", 10),
        launch_timeout=read.seconds("EDIT_LAUNCH_TIMEOUT", 600),
        checkpoint_interval=read.seconds("EDIT_CHECKPOINT_INTERVAL", 300),
        save_timeout=read.seconds("EDIT_SAVE_TIMEOUT", 240),
        allowed_outage=read.seconds("EDIT_ALLOWED_OUTAGE", 7200),
        silence_limit=read.seconds("EDIT_SILENCE_LIMIT", 86400),
        idle_time=60 * read.seconds(ENV_AUTO_SHUTDOWN, 20),
        busy_max=read.seconds("EDIT_BUSY_MAX", 7200),
        reserve=read.size("EDIT_RESERVE", 32 << 20),
        port=read.port(ENV_PORT),
        address=environment.get("EDIT_AGENT_ADDRESS", ""),
        token_sha256=environment.get(ENV_TOKEN_SHA256, ""),
        generation=generation_from_environment(environment),
        task_arn=environment.get("EDIT_TASK_ARN", ""),
        metadata_uri=environment.get("ECS_CONTAINER_METADATA_URI_V4", ""),
        hidden=(*HIDDEN, *(name.strip() for name in environment.get("EDIT_HIDE", "").split(",") if name.strip())),
    )
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    within = {settings.state, *settings.state.parents}, {settings.workspace, *settings.workspace.parents}
    if settings.workspace in within[0] or settings.state in within[1]:
        raise ConfigError(
            f"EDIT_STATE_DIR {settings.state} and the workspace {settings.workspace} are not apart",
            "the workload could change what the agent saves with",
            "choose a directory outside of the workspace",
        )
    if settings.remote and settings.identity is None and settings.save_to is not SaveTo.NONE:
        raise ConfigError(
            "the container does not know whose it is",
            "CLIENT_ID, PROJECT_ID and USER_ID name the branch that work is saved to",
            "launch it with them, or set EDIT_SAVE_TO=none",
        )
    if settings.remote:
        _check_remote(settings)


def _check_remote(settings: Settings) -> None:
    parts = urlsplit(settings.remote)
    if parts.password:
        raise ConfigError(
            "EDIT_REMOTE carries a password", "it can be read by DescribeTasks", "let EDIT_CREDENTIAL_COMMAND print it"
        )
    if _scheme(settings.remote) not in ("https", "http", "ssh", "file"):
        raise ConfigError(
            f"EDIT_REMOTE {settings.remote!r} is not an https, ssh or file address",
            "other transports can run programs",
            "give an https:// or ssh:// address, or an absolute path",
        )
    if parts.scheme == "http" and settings.credential_command and parts.hostname not in _LOOPBACK:
        raise ConfigError(
            "EDIT_REMOTE is http:// and EDIT_CREDENTIAL_COMMAND is set",
            "the credential would cross the network in the clear",
            "use https://",
        )


def _scheme(remote: str) -> str:
    if remote.startswith("/"):
        return "file"
    if "::" in remote.split("/", 1)[0]:
        return "ext"
    scheme = urlsplit(remote).scheme if "://" in remote else ""
    return scheme or ("ssh" if _SCP.match(remote) else "")


def _template(name: str, environment: Mapping[str, str], identity: ContainerIdentity | None) -> str:
    template = environment.get(name, "")
    if "{" not in template:
        return template
    if identity is None:
        raise ConfigError(
            f"{name} has placeholders, and the container does not know whose it is",
            "CLIENT_ID, PROJECT_ID or USER_ID is missing",
            "the controller sets them at launch",
        )
    try:
        return render(template, identity)
    except ConfigError as e:
        raise ConfigError(f"{name}: {e.what}", e.why, e.todo) from e


def _absolute(name: str, value: str) -> Path:
    path = Path(value)
    if not path.is_absolute() or ".." in path.parts or "\0" in value:
        raise ConfigError(
            f"{name} is {value!r}", "it must be absolute and without '..'", "give the path that is really meant"
        )
    return path


def _author(value: str) -> str:
    if not re.fullmatch(r"[^<>\n\0]+ <[^<>\n\0 ]+>", value):
        raise ConfigError(f"EDIT_AUTHOR is {value!r}", "git wants a name and an address", "write Name <name@host>")
    return value


def _user(value: str) -> User | None:
    if not value:
        return None
    if os.geteuid() != 0:
        raise ConfigError(
            f"EDIT_WORKLOAD_USER is {value!r} and the agent is not root",
            "only root can start the workload as another user",
            "start the container as root, or leave the variable out",
        )
    name, _, group = value.partition(":")
    try:
        uid = int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
        if not group:
            gid = uid if name.isdigit() else pwd.getpwnam(name).pw_gid
        else:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as e:
        raise ConfigError(
            f"EDIT_WORKLOAD_USER {value!r} is not known here", str(e), "name a user of the image, or UID:GID"
        ) from e
    if uid == 0:
        raise ConfigError(
            "EDIT_WORKLOAD_USER is root", "that is who the agent is", "name another user, or leave the variable out"
        )
    return User(uid, gid)


class _Reader:
    """Reads values of a kind, with the variable's name in every error."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def seconds(self, name: str, default: float) -> float:
        text = self._environment.get(name, "")
        if not text:
            return default
        match = _DURATION.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{name} is {text!r}", "it is a duration", "write 90s, 20m or 2h")
        return float(match[1]) * _UNITS[match[2]]

    def size(self, name: str, default: int) -> int:
        text = self._environment.get(name, "")
        if not text:
            return default
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{name} is {text!r}", "it is a size in bytes", "write 33554432 or 32M")
        return int(match[1]) * _SIZES[match[2].lower()]

    def flag(self, name: str, *, default: bool) -> bool:
        text = self._environment.get(name, "").strip().lower()
        if not text:
            return default
        if text not in ("true", "false", "yes", "no", "1", "0"):
            raise ConfigError(f"{name} is {text!r}", "it is a choice of two", "write true or false")
        return text in ("true", "yes", "1")

    def choice(self, name: str, default: SaveTo) -> SaveTo:
        text = self._environment.get(name, "")
        try:
            return SaveTo(text) if text else default
        except ValueError as e:
            raise ConfigError(
                f"{name} is {text!r}", f"known are {', '.join(SaveTo)}", "choose one, or leave it out"
            ) from e

    def port(self, name: str) -> int | None:
        text = self._environment.get(name, "")
        if not text:
            return None
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise ConfigError(f"{name} is {text!r}", "it is a TCP port", "write a number from 1 to 65535")
        return int(text)
