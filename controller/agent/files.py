"""Looking at a directory tree that somebody may be changing at this moment, without being led out of it.

Every directory is opened from its parent's descriptor and without following symlinks. A path that is checked and then
opened could be exchanged in between for a link to a file that only the agent can read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CHUNK = 1 << 20


class Tree:
    """A directory held open, with the chain of directories that was entered last.

    Walk in path order: going on to a neighbour opens only what is different.
    """

    def __init__(self, root: Path) -> None:
        self._fds = [os.open(root, _DIRECTORY)]
        self._names: list[bytes] = []

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def enter(self, directory: bytes) -> int:
        """Return the descriptor of a directory below the root (b"" is the root). Raises OSError."""
        wanted = directory.split(b"/") if directory else []
        same = 0
        while same < len(self._names) and same < len(wanted) and self._names[same] == wanted[same]:
            same += 1
        while len(self._names) > same:
            self._names.pop()
            os.close(self._fds.pop())
        for name in wanted[same:]:
            self._fds.append(os.open(name, _DIRECTORY, dir_fd=self._fds[-1]))
            self._names.append(name)
        return self._fds[-1]

    def lstat(self, path: bytes) -> os.stat_result:
        """Return the state of what is at the path itself. Raises OSError."""
        directory, _, name = path.rpartition(b"/")
        return os.stat(name or b".", dir_fd=self.enter(directory), follow_symlinks=False)

    def open(self, path: bytes) -> int:
        """Open a regular file. Raises OSError, also for anything that is not one."""
        directory, _, name = path.rpartition(b"/")
        descriptor = os.open(name, _FILE, dir_fd=self.enter(directory))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{os.fsdecode(path)} is not a regular file")
        return descriptor

    def readlink(self, path: bytes) -> bytes:
        """Return where a symlink points. Raises OSError."""
        directory, _, name = path.rpartition(b"/")
        return os.readlink(name, dir_fd=self.enter(directory))

    def read_small(self, path: bytes, limit: int) -> bytes:
        """Return the content of a regular file, b"" when there is none, it is larger or it cannot be read."""
        try:
            descriptor = self.open(path)
        except OSError:
            return b""
        try:
            data = read_whole(descriptor, limit + 1)
        except OSError:
            return b""
        finally:
            os.close(descriptor)
        return data if len(data) <= limit else b""


def read_whole(descriptor: int, size: int) -> bytes:
    """Return up to size bytes from a descriptor."""
    data = os.read(descriptor, size)
    if len(data) in (0, size):
        return data
    parts = [data]
    left = size - len(data)
    while left > 0 and (data := os.read(descriptor, left)):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Signature:
    """What changes when a file is changed; ctime cannot be set back by the file's owner."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @classmethod
    def of(cls, state: os.stat_result) -> Signature:
        """Return the signature of a file's state."""
        return cls(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)

    def as_list(self) -> list[int]:
        """Return it as it is kept in a file."""
        return [self.size, self.mtime, self.ctime, self.inode]


def is_forbidden(path: bytes) -> bool:
    """Whether git refuses the path in any repository: a component that could be taken for `.git`."""
    return any(part.lower() == b".git" for part in path.split(b"/")) if b".git" in path.lower() else False


def fit(text: str) -> str:
    """Return a text that came from bytes in a form that every table and log takes."""
    return os.fsencode(text).decode(errors="backslashreplace")


def shown(paths: Sequence[bytes], most: int = 5) -> str:
    """Return some paths for a sentence, printable and short."""
    names = [path.decode(errors="backslashreplace") for path in paths[:most]]
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join("".join(c if c.isprintable() else "?" for c in name)[:120] for name in names) + more
