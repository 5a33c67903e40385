"""The agent's own directory: its bare repository, the lock, what is remembered, and the reserve for a full disk.

A save may be killed at any moment, and so may each git command in it. Everything here is therefore either replaced
whole or only ever added to, the lock is the kernel's (it ends with the last process that holds it, git's included),
and lock files of git that a killed command left behind are removed by whoever holds ours.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.agent.failures import SaveFailed
from controller.agent.git import ASKPASS, CONFIG, Deadline, Git
from controller.agent.protocol import Receipt, SaveReason, receipt_from_json
from controller.errors import ConfigError, ProtocolError

_LOCK_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Last:
    """The last save that the remote confirmed."""

    fingerprint: str
    files: str
    """Fingerprint of the files alone, and the tree that they are."""
    tree: str
    receipt: Receipt


@contextmanager
def locked(git: Git, deadline: Deadline) -> Iterator[None]:
    """Hold the agent's directory alone, prepared and free of what a killed save left. Raises SaveFailed."""
    state = git.settings.state
    _own_directory(state)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(descriptor):
            if deadline.left() <= 0:
                raise SaveFailed(SaveReason.BUSY_LOCK, "another save did not end in time")
            time.sleep(_LOCK_POLL)
        git.inherited = (descriptor,)
        try:
            _prepare(git)
            yield
        except BaseException:
            # Half a pack of a failed save must not be what keeps a disk full.
            _clear(git.dir)
            raise
    finally:
        git.inherited = ()
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _own_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as e:
        raise ConfigError(
            f"EDIT_STATE_DIR {path} cannot be used", e.strerror or str(e), "name a directory that the agent may write"
        ) from e
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(
            f"EDIT_STATE_DIR {path} is not the agent's own directory",
            "whoever owns it decides what is pushed with the agent's credential",
            "name a directory that only the agent's user can write",
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)


def _prepare(git: Git) -> None:
    """Make the repository, or clear what a killed command left in it. Configuration is written anew each time."""
    git.home.mkdir(mode=0o700, exist_ok=True)
    _replace(git.askpass, ASKPASS, mode=0o700)
    if (git.dir / "HEAD").exists():
        _clear(git.dir)
    else:
        _make(git.dir)
    _replace(git.dir / "config", CONFIG)
    (git.dir / "info").mkdir(exist_ok=True)


def _make(repository: Path) -> None:
    draft = repository.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    for folder in ("objects/pack", "objects/info", "refs/heads"):
        (draft / folder).mkdir(parents=True)
    (draft / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
    draft.replace(repository)


def begin_anew(git: Git) -> None:
    """Throw the repository and what is remembered away, and make an empty one. Only with the lock held."""
    for name in ("last.json", "seen.json"):
        (git.settings.state / name).unlink(missing_ok=True)
    away = git.dir.with_suffix(".old")
    shutil.rmtree(away, ignore_errors=True)
    git.dir.replace(away)
    shutil.rmtree(away, ignore_errors=True)
    _prepare(git)


def _clear(repository: Path) -> None:
    """Remove lock files, half-written objects and drafts: we hold the lock, so nobody is using them."""
    shutil.rmtree(repository / "refs" / "edit" / "draft", ignore_errors=True)
    for path in (repository / "objects").glob("tmp_objdir-*"):
        shutil.rmtree(path, ignore_errors=True)
    for pattern in ("*.lock", "refs/**/*.lock", "fast_import_crash_*", "objects/tmp_*", "objects/*/tmp_*"):
        for path in repository.glob(pattern):
            path.unlink(missing_ok=True)


def _replace(path: Path, text: str, mode: int = 0o600) -> None:
    if path.exists() and path.read_text(encoding="ascii", errors="replace") == text:
        return
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="ascii")
    draft.chmod(mode)
    draft.replace(path)


# What is remembered


def read_last(state: Path) -> Last | None:
    """Return the last confirmed save, None when there is none or it cannot be read."""
    try:
        body: Any = json.loads((state / "last.json").read_bytes())
        return Last(str(body["fingerprint"]), str(body["files"]), str(body["tree"]), receipt_from_json(body["receipt"]))
    except (OSError, ValueError, KeyError, TypeError, ProtocolError):
        return None


def write_last(state: Path, last: Last) -> None:
    """Remember a confirmed save."""
    body = {
        "fingerprint": last.fingerprint,
        "files": last.files,
        "tree": last.tree,
        "receipt": last.receipt.to_json(),
    }
    _replace(state / "last.json", json.dumps(body))


# The reserve


def keep_reserve(state: Path, size: int) -> None:
    """Set disk space aside, if there is any to set aside."""
    path = state / "reserve"
    try:
        if size <= 0 or (path.exists() and path.stat().st_size == size):
            return
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        path.unlink(missing_ok=True)


def give_up_reserve(state: Path) -> bool:
    """Free the space that was set aside; say whether there was any."""
    path = state / "reserve"
    if not path.exists():
        return False
    path.unlink()
    return True
