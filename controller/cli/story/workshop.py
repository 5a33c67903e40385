"""Workspaces and what they are saved to: the demo's tasks with a real agent in each, and a repository a project.

Everything is below one directory. git runs without anybody's configuration.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from controller.agent.git import clean_environment, self_command
from controller.agent.names import Refs, escaped_id
from controller.cli.story import workload
from controller.core.identity import ContainerIdentity, identity_from_environment
from controller.core.model import Millis

__all__ = ["Saved", "Tree", "Workshop", "why_not"]

MAIN = "refs/heads/main"
OLDEST_GIT = (2, 39)
_PROBED = "127.1.0.1"
_HELD = "127.1.255.254"
"""The last address of the tasks' network; the demo keeps its agents' port there, so that no other demo gets it."""
_INITIAL = {"README.md": b"A project.\n", "index.html": b"<h1>welcome</h1>\n"}

Tree = Mapping[str, tuple[str, bytes]]
"""Path -> the mode as git writes it, and the content or the target of a link."""


def why_not() -> str:
    """Return why there can be no workspaces on this machine, empty when there can."""
    if not sys.platform.startswith("linux"):
        return f"edit-agent needs Linux, and this is {sys.platform}"
    if not _can_listen():
        return f"this machine cannot listen on addresses such as {_PROBED}"
    git = shutil.which("git")
    if git is None:
        return "git is not installed"
    said = subprocess.run(
        [git, "--version"], env=clean_environment(Path(os.devnull), ""), capture_output=True, text=True, check=False
    ).stdout.strip()
    match = re.search(r"(\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_GIT:
        return f"git {'.'.join(map(str, OLDEST_GIT))} or newer is needed, and this is {said or 'none that works'}"
    return ""


def _can_listen() -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_PROBED, 0))
        except OSError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Saved:
    """A save that an agent says has succeeded, in its own log."""

    identity: ContainerIdentity
    commit: str
    files: int
    drain: int | None
    at: Millis


class Workshop:
    """The files of the demo's tasks, and their projects' repositories, below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tasks = root / "tasks"
        self.secret_file = root / "secret"
        self.secret_file.touch(0o600)
        self.secret_file.write_text(secrets.token_hex(32))
        self._held = socket.socket()
        self._held.bind((_HELD, 0))
        self.port = int(self._held.getsockname()[1])
        self._home = root / "home"
        self._home.mkdir()
        self._go = -1

    def close(self) -> None:
        """Give the port back, and let go what was held up."""
        self._held.close()
        self._close_go()

    @property
    def settings(self) -> Mapping[str, str]:
        """What the controller is told."""
        return {"agent_port": str(self.port), "channel_secret_file": str(self.secret_file)}

    # What runs in a task

    def command(
        self, environment: Mapping[str, str], address: str, stop_timeout: int, directory: Path
    ) -> tuple[list[str], dict[str, str]]:
        """Return what an image of ours and its task definition say: a command, and variables beside the launch's."""
        program = [sys.executable, "-I", "-S", workload.__file__]
        identity = identity_from_environment(environment)
        if identity is None:
            # Somebody else's task: its image has no agent.
            return program, {}
        self.repository(identity)
        return self_command("run", "--", *program), {
            # On AWS each container has a loopback address of its own, and ECS's metadata tells it the other one.
            "EDIT_AGENT_ADDRESS": address,
            "EDIT_ALLOWED_OUTAGE": "10m",
            "EDIT_REMOTE": f"{self.root}/remotes/{{client}}/{{project}}.git",
            "EDIT_RESERVE": "0",
            "EDIT_STATE_DIR": str(directory / "agent"),
            "EDIT_STOP_TIMEOUT": str(stop_timeout),
            "WORKSPACE_PATH": str(directory / "workspace"),
        }

    def directory(self, arn: str) -> Path:
        """Return the directory of a task: its workspace, its log, and its agent's own."""
        return self.tasks / arn.rpartition("/")[2]

    def workspace(self, arn: str) -> Path:
        """Return the workspace of a task."""
        return self.directory(arn) / "workspace"

    def log(self, arn: str) -> Iterator[Mapping[str, Any]]:
        """Yield what the agent of a task has logged."""
        file = self.directory(arn) / "log"
        if not file.exists():
            return
        for line in file.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event

    def has_logged(self, arn: str, name: str) -> bool:
        """Tell whether the agent of a task has logged such an event."""
        return any(event["event"] == name for event in self.log(arn))

    def is_frozen(self, arn: str) -> bool:
        """Tell whether the workload of a task stands still, by what the kernel says of its process."""
        pid = next((event["pid"] for event in self.log(arn) if event["event"] == "workloadStarted"), None)
        try:
            # The name is in parentheses and may hold anything, parentheses too.
            state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state == "T"

    def saves(self, arn: str, identity: ContainerIdentity) -> Iterator[Saved]:
        """Yield the saves of a task that its agent says have succeeded."""
        for event in self.log(arn):
            if event["event"] == "saved" and event.get("state") == "saved" and event.get("commit"):
                yield Saved(identity, event["commit"], event["files"], event.get("drain"), event["at"])

    def ask(self, arn: str, page: str) -> Callable[[], bool]:
        """Let the workload of a task make a page; return what tells whether it has."""
        home = self.directory(arn)
        answer = home / workload.ANSWER
        answer.unlink(missing_ok=True)
        (home / "typing").write_text(page)
        (home / "typing").rename(home / workload.MESSAGE)
        return lambda: answer.exists() and answer.read_text() == page

    def files(self, arn: str) -> Tree:
        """Return the files of a workspace, as git would record them."""
        top = self.workspace(arn)
        return {path.relative_to(top).as_posix(): content for path in _walk(top) if (content := _content(path))}

    def status(self, arn: str) -> str:
        """Return what git says is not committed in a workspace."""
        return self._git("status", "--porcelain", "--untracked-files=all", at=self.workspace(arn)).decode()

    # What is saved

    def repository(self, identity: ContainerIdentity) -> Path:
        """Return the bare repository of a project; it is made, with one commit on main, when it is first wanted."""
        path = self.root / "remotes" / identity.client_id / f"{identity.project_id}.git"
        if not path.exists():
            new = path.with_suffix(".new")
            new.mkdir(parents=True)
            self._git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".", at=new)
            self._git("fast-import", "--quiet", at=new, stdin=_first_commit())
            (new / "hooks").mkdir()
            new.rename(path)
        return path

    @staticmethod
    def ref(identity: ContainerIdentity) -> str:
        """Return the ref that a container's work is saved to."""
        return Refs(escaped_id(identity)).wip

    def commit(self, identity: ContainerIdentity, ref: str = "") -> str:
        """Return the commit of a ref at the remote, of the container's own when none is given; empty without one."""
        wanted = ref or self.ref(identity)
        listed = self._git("for-each-ref", "--format=%(objectname)", wanted, at=self.repository(identity))
        return listed.decode().strip()

    def saved_files(self, identity: ContainerIdentity, commit: str = "") -> Tree:
        """Return the files of a commit at the remote, of what was saved last when none is given."""
        there = self.repository(identity)
        listed = self._git("ls-tree", "-r", "-z", commit or self.ref(identity), at=there).split(b"\0")[:-1]
        found = {}
        for line in listed:
            about, _, path = line.partition(b"\t")
            mode, _, blob = about.decode().split()
            found[path.decode()] = (mode, self._git("cat-file", "blob", blob, at=there))
        return found

    def history(self, identity: ContainerIdentity, ref: str) -> list[str]:
        """Return the commits of a ref at the remote, the newest first; none if there is no such ref."""
        newest = self.commit(identity, ref)
        return self._git("rev-list", newest, at=self.repository(identity)).decode().split() if newest else []

    def is_at_the_remote(self, saved: Saved) -> bool:
        """Tell whether the remote has a save, on the container's ref."""
        return saved.commit in self.history(saved.identity, self.ref(saved.identity))

    # A push that takes long

    def hold_pushes(self, identity: ContainerIdentity) -> None:
        """Let pushes to a project's repository wait from here on."""
        hooks = self.repository(identity) / "hooks"
        os.mkfifo(hooks / "go")
        # Open on both sides, so that nobody waits here; if this process is killed the hook's waiting ends with it.
        self._go = os.open(hooks / "go", os.O_RDWR | os.O_CLOEXEC)
        self._hook(identity).write_text(f"#!/bin/sh\n: > '{hooks}/pushing'\nread -r go < '{hooks}/go'\n")
        self._hook(identity).chmod(0o755)

    def holds_a_push(self, identity: ContainerIdentity) -> bool:
        """Tell whether a push waits."""
        return (self.repository(identity) / "hooks" / "pushing").exists()

    def let_pushes_go(self, identity: ContainerIdentity) -> None:
        """Let the push that waits go on, and hold up no other."""
        self._hook(identity).unlink()
        os.write(self._go, b"go\n")

    def _close_go(self) -> None:
        if self._go >= 0:
            os.close(self._go)
            self._go = -1

    def _hook(self, identity: ContainerIdentity) -> Path:
        return self.repository(identity) / "hooks" / "pre-receive"

    # git

    @cached_property
    def _program(self) -> str:
        program = shutil.which("git")
        assert program is not None, "why_not was asked"
        return program

    def _git(self, *arguments: str, at: Path, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [self._program, *arguments],
            cwd=at,
            env=clean_environment(self._home, "file"),
            input=stdin,
            capture_output=True,
            check=True,
        )
        return done.stdout


def _first_commit() -> bytes:
    """Return the first commit of a project, as `git fast-import` reads it; the same each time."""
    author = b"A person <person@localhost> 1700000000 +0000"
    parts = [b"commit refs/heads/main\nauthor %s\ncommitter %s\ndata 6\nfirst\n" % (author, author)]
    for name, content in _INITIAL.items():
        parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content))
    return b"".join(parts)


def _walk(top: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(top):
        here = Path(folder)
        if here == top and ".git" in folders:
            folders.remove(".git")
        yield from (here / name for name in (*names, *folders))


def _content(path: Path) -> tuple[str, bytes] | None:
    """Return mode and content as git records them, None for what it has no place for."""
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return "120000", os.fsencode(path.readlink())
    if stat.S_ISREG(state.st_mode):
        return "100755" if state.st_mode & stat.S_IXUSR else "100644", path.read_bytes()
    return None
