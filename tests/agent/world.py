"""A container's workspace, its agent's own directory and a remote, all in a temporary directory, with real git."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.agent.git import Deadline
from controller.agent.protocol import Receipt
from controller.agent.restore import Restored, restore
from controller.agent.settings import Settings, from_environment
from controller.agent.workspace import save

TEST_PAUSE = threading.Event()
TREE = dict[bytes, tuple[str, bytes]]
"""Path -> (mode as git writes it, content or link target)."""


def until(condition: Callable[[], object], seconds: float = 20, what: str = "") -> None:
    """Wait for a condition; fail when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or condition}")
        TEST_PAUSE.wait(0.01)


def git(directory: Path, *arguments: str, check: bool = True, **environment: str) -> str:
    """Run git as a user would, and return what it prints."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        check=check,
        capture_output=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.com",
            "GIT_COMMITTER_NAME": "Ann",
            "GIT_COMMITTER_EMAIL": "ann@example.com",
            **environment,
        },
    )
    return done.stdout.decode(errors="surrogateescape").strip()


@dataclass
class Remote:
    """A bare repository somewhere else."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> Remote:
        """Make an empty one."""
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".")
        return cls(path)

    def refs(self) -> dict[str, str]:
        """Return every branch and its commit."""
        listed = git(self.path, "for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split(" ") for line in listed.splitlines())

    def has(self, commit: str, ref: str) -> bool:
        """Tell whether a ref contains a commit."""
        done = subprocess.run(
            ["git", "merge-base", "--is-ancestor", commit, ref], cwd=self.path, capture_output=True, check=False
        )
        return done.returncode == 0

    def tree(self, ref: str) -> TREE:
        """Return the files of a ref."""
        listed = subprocess.run(
            ["git", "ls-tree", "-r", "-z", ref], cwd=self.path, check=True, capture_output=True
        ).stdout.split(b"\0")[:-1]
        found: TREE = {}
        for line in listed:
            about, _, path = line.partition(b"\t")
            mode, kind, sha = about.decode().split(" ")
            found[path] = (mode, self.blob(sha) if kind == "blob" else sha.encode())
        return found

    def blob(self, sha: str) -> bytes:
        """Return an object's content."""
        return subprocess.run(["git", "cat-file", "blob", sha], cwd=self.path, check=True, capture_output=True).stdout

    def hook(self, name: str, script: str) -> None:
        """Install a hook."""
        path = self.path / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def fsck(self) -> str:
        """Return what is wrong with it, empty when nothing is."""
        done = subprocess.run(
            # What a user's .gitmodules says is the user's; whether objects are whole is ours.
            [
                "git",
                "-c",
                "fsck.gitmodulesUpdate=ignore",
                "fsck",
                "--full",
                "--strict",
                "--no-dangling",
                "--no-progress",
            ],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr


@dataclass
class Container:
    """One container: a clone of the remote in its workspace, and the agent's directory beside it."""

    root: Path
    remote: Remote
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        """Where the user works."""
        return self.root / "workspace"

    @property
    def state(self) -> Path:
        """What is the agent's."""
        return self.root / "state"

    def settings(self, **changed: str) -> Settings:
        """Return the settings, from the environment that the launch would give."""
        return from_environment(self.env(**changed))

    def env(self, **changed: str) -> dict[str, str]:
        """Return the container's environment."""
        return {
            "PATH": os.environ["PATH"],
            "CLIENT_ID": "acme",
            "PROJECT_ID": "site",
            "USER_ID": "ann@acme.io",
            "CONTAINER_ID": "acme-site-ann@acme.io",
            "WORKSPACE_PATH": str(self.workspace),
            "EDIT_STATE_DIR": str(self.state),
            "EDIT_REMOTE": str(self.remote.path),
            "EDIT_RESERVE": "0",
            **self.environment,
            **changed,
        }

    @property
    def wip(self) -> str:
        """The branch of uncommitted work."""
        return "refs/heads/edit/acme-site-ann@acme.io/wip"

    @property
    def rescues(self) -> dict[str, str]:
        """The rescue refs at the remote."""
        below = "refs/heads/rescue/acme-site-ann@acme.io/"
        return {ref: sha for ref, sha in self.remote.refs().items() if ref.startswith(below)}

    def git(self, *arguments: str, check: bool = True, **environment: str) -> str:
        """Run git in the workspace as the user."""
        return git(self.workspace, *arguments, check=check, **environment)

    def clone(self) -> None:
        """Fill the workspace as an image's start script would."""
        git(self.root, "clone", "--quiet", "--template=", str(self.remote.path), "workspace")

    def write(self, path: str, content: str | bytes = "content\n") -> Path:
        """Write a file in the workspace."""
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def commit(self, path: str, content: str | bytes = "content\n", message: str = "a change") -> str:
        """Write a file, commit it, and return the commit."""
        self.write(path, content)
        self.git("add", "--force", path)
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def save(self, seconds: float = 60, *, ask_again: bool = True, **changed: Any) -> Receipt:
        """Save as the agent does."""
        return save(self.settings(**changed), Deadline(seconds), ask_again=ask_again)

    def restore(self, **changed: str) -> Restored:
        """Restore as the agent does."""
        return restore(self.settings(**changed), Deadline(60))

    def again(self, name: str = "again") -> Container:
        """Return the container that comes after this one: nothing of it is left but the remote."""
        other = self.root / name
        other.mkdir()
        return Container(other, self.remote, dict(self.environment))

    def files(self) -> TREE:
        """Return what is in the workspace, without .git at the top."""
        return files_of(self.workspace)

    def everything(self) -> dict[str, tuple[object, ...]]:
        """Return every entry of the workspace with content and times, .git too: nothing of it may move."""
        found: dict[str, tuple[object, ...]] = {}
        for folder, folders, names in os.walk(self.workspace):
            for name in (*folders, *names):
                path = Path(folder) / name
                state = path.lstat()
                content: object = None
                if stat.S_ISLNK(state.st_mode):
                    content = path.readlink()
                elif stat.S_ISREG(state.st_mode):
                    content = path.read_bytes()
                found[str(path)] = (state.st_mode, state.st_ino, state.st_mtime_ns, state.st_ctime_ns, content)
        return found


def files_of(top: Path) -> TREE:
    """Return the files below a directory as git would record them."""
    found: TREE = {}
    for folder, folders, names in os.walk(os.fsencode(top)):
        if folder == os.fsencode(top) and b".git" in folders:
            folders.remove(b".git")
        for name in [*names, *(f for f in folders if (Path(os.fsdecode(folder)) / os.fsdecode(f)).is_symlink())]:
            path = os.path.join(folder, name)  # noqa: PTH118 (bytes: names need not be text)
            relative = os.path.relpath(path, os.fsencode(top))
            state = os.lstat(path)
            if stat.S_ISLNK(state.st_mode):
                found[relative] = ("120000", os.readlink(path))  # noqa: PTH115
            elif stat.S_ISREG(state.st_mode):
                mode = "100755" if state.st_mode & stat.S_IXUSR else "100644"
                found[relative] = (mode, Path(os.fsdecode(path)).read_bytes())
    return found


def make_container(root: Path, environment: Mapping[str, str] | None = None) -> Container:
    """Return a container whose workspace is a clone of a remote with one commit on main."""
    remote = Remote.make(root / "remote.git")
    container = Container(root, remote, dict(environment or {}))
    container.clone()
    container.commit("README.md", "hello\n", "first")
    container.git("push", "--quiet", "origin", "main")
    return container


def copy_container(container: Container, root: Path) -> Container:
    """Return an independent copy: quicker than making one anew."""
    shutil.copytree(container.root, root, symlinks=True)
    copy = Container(root, Remote(root / "remote.git"), dict(container.environment))
    config = copy.workspace / ".git/config"
    config.write_text(config.read_text().replace(str(container.remote.path), str(copy.remote.path)))
    return copy
