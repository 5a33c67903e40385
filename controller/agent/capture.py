"""From the files of the workspace to a tree in the agent's repository.

git says which files there are (its rules for .gitignore are the ones that count); this module reads them, names their
content, and hands what is new to `git fast-import`, which packs while we read. A file whose size, times and inode are
as last seen is not read again.
"""

from __future__ import annotations

import bisect
import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from controller.agent.failures import GitFailed, SaveFailed
from controller.agent.files import CHUNK, Signature, Tree, is_forbidden, read_whole, shown
from controller.agent.git import SAID, Deadline, Git, end_group, reason_of, redact
from controller.agent.protocol import SaveReason
from controller.agent.untrusted import Staged, fetch

FILE = "100644"
PROGRAM = "100755"
LINK = "120000"
SUBMODULE = "160000"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

IN_MEMORY = 32 << 20
"""A larger file is streamed."""
SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again without its times showing it."""
MOST_TORN = 3
MOST_NESTED = 200

Entries = dict[bytes, tuple[str, str]]
"""Path -> (mode, object id)."""


@dataclass
class Capture:
    """What was found in the workspace."""

    entries: Entries = field(default_factory=dict)
    read: int = 0
    ignored: int = 0
    unreadable: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def fingerprint(self) -> str:
        """A hash over every path, mode and content; asked for when all are there."""
        digest = hashlib.sha256()
        for path in sorted(self.entries):
            mode, sha = self.entries[path]
            digest.update(f"{mode} {sha} {len(path)} ".encode() + path)
        return digest.hexdigest()


def blob_id(data: bytes) -> str:
    """Return the id that git gives to this content."""
    digest = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest()


# Which files there are


@dataclass(frozen=True, slots=True)
class Listing:
    """The paths that are to be saved, in order, and what is not."""

    paths: list[bytes]
    ignored: list[bytes]
    nested: list[bytes]
    left_out: list[bytes]
    """Nested repositories beyond what is looked into."""


def list_files(git: Git, tracked: Iterable[bytes], deadline: Deadline) -> Listing:
    """Return every file that git would track: not ignored, or ignored and tracked all the same.

    Asked with an empty index, so everything is "other" to git and the workspace's own index has no say.
    """
    _copy_excludes(git)
    found, nested, left_out = _others(git, deadline)
    listed = set(found)
    ignored = _ls(git, git.settings.workspace, ["--ignored", "--directory"], deadline)
    with Tree(git.settings.workspace) as tree:
        kept = [path for path in sorted(set(tracked) - listed) if _is_file(tree, path)]
    known = set(kept)
    return Listing(sorted(listed | known), [path for path in ignored if path not in known], nested, left_out)


def _others(git: Git, deadline: Deadline) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return all files, the nested repositories (`name/` to git, entered with their own rules), and those left out."""
    files: list[bytes] = []
    nested: list[bytes] = []
    left_out: list[bytes] = []
    waiting = [b""]
    while waiting:
        prefix = waiting.pop()
        for path in _ls(git, git.settings.workspace / os.fsdecode(prefix), [], deadline):
            if not path.endswith(b"/"):
                files.append(prefix + path)
            elif len(nested) < MOST_NESTED:
                nested.append(prefix + path[:-1])
                waiting.append(prefix + path)
            else:
                left_out.append(prefix + path[:-1])
    return files, nested, left_out


def _ls(git: Git, top: Path, options: list[str], deadline: Deadline) -> list[bytes]:
    nowhere = git.settings.state / "no-index"
    extra = {"GIT_INDEX_FILE": str(nowhere), "GIT_WORK_TREE": str(top)}
    command = ("ls-files", "-z", "--others", "--exclude-standard", *options)
    return git.run(*command, deadline=deadline, extra=extra, cwd=top).out.split(b"\0")[:-1]


def _copy_excludes(git: Git) -> None:
    with Tree(git.settings.workspace) as tree:
        rules = tree.read_small(b".git/info/exclude", 1 << 20)
    (git.dir / "info" / "exclude").write_bytes(rules)


def _is_file(tree: Tree, path: bytes) -> bool:
    try:
        mode = tree.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


# What was seen last


class Seen:
    """Content ids of files by what the file system says of them, kept between saves."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._old: dict[str, list[object]] = {}
        self._new: dict[str, list[object]] = {}
        try:
            loaded = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(loaded, dict):
            self._old = loaded

    def ids(self) -> set[str]:
        """Return every content id that an earlier save left in the repository."""
        return {str(entry[-1]) for entry in self._old.values()}

    def get(self, path: bytes, signature: Signature) -> str | None:
        """Return the content id, if the file is as it was."""
        name = os.fsdecode(path)
        entry = self._old.get(name)
        if entry is None or entry[:-1] != signature.as_list():
            return None
        self._new[name] = entry
        return str(entry[-1])

    def put(self, path: bytes, signature: Signature, content: str, read_at: int) -> None:
        """Remember, unless the file changed so lately that a second change might look the same."""
        if max(signature.mtime, signature.ctime) < read_at - SETTLED_NS:
            self._new[os.fsdecode(path)] = [*signature.as_list(), content]

    def keep(self) -> None:
        """Write what this save saw. Only after its objects are in the repository."""
        if self._new == self._old:
            return
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._new, separators=(",", ":")), encoding="ascii")
        draft.replace(self._path)

    def forget(self) -> None:
        """Drop what is kept: the repository does not have what it should."""
        self._path.unlink(missing_ok=True)
        self._old, self._new = {}, {}


# Into the repository


class Importer:
    """`git fast-import`, started when there is something to write. What it wrote exists after `finish` only."""

    def __init__(self, git: Git, known: set[str], deadline: Deadline) -> None:
        self.known = known
        """Content ids that need not be written."""
        self._git = git
        self._deadline = deadline
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: threading.Timer | None = None
        # In memory: on a full disk its words would be lost, and those are what tells that it is full.
        self._errors = os.memfd_create("errors")
        self._trees = 0

    def __enter__(self) -> Importer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._watch:
            self._watch.cancel()
        if self._process is not None:
            end_group(self._process)
            self._process = None
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1

    def blob(self, content: str, data: bytes) -> None:
        """Write a file's content, unless it is there."""
        if content not in self.known:
            self._write(b"blob\ndata %d\n" % len(data), data, b"\n")
            self.known.add(content)

    def begin_blob(self, size: int) -> None:
        """Begin a large file; exactly so many bytes must follow by `more`."""
        self._write(b"blob\ndata %d\n" % size)

    def more(self, data: bytes) -> None:
        """Go on with a large file."""
        self._write(data)

    def tree(self, entries: Entries) -> str:
        """Write a tree with these entries and return its id."""
        if not entries:
            return EMPTY_TREE
        self._trees += 1
        head = b"commit refs/edit/draft/%d\nmark :%d\n" % (self._trees, self._trees)
        about = b"committer edit-agent <edit-agent@localhost> 0 +0000\ndata 0\n\ndeleteall\n"
        lines = [b"M %s %s %s\n" % (mode.encode(), sha.encode(), _quoted(p)) for p, (mode, sha) in entries.items()]
        self._write(head, about, *lines, b"\n", b'ls :%d ""\n' % self._trees)
        return self._answer().split(" ")[2].partition("\t")[0]

    def finish(self) -> None:
        """Make everything that was written part of the repository. Raises GitFailed."""
        if self._process is None:
            return
        self._write(b"done\n")
        self._flush()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(self._deadline.left())
        except subprocess.TimeoutExpired:
            raise SaveFailed(SaveReason.DEADLINE, "the time was up while the files were packed") from None
        if code != 0:
            raise self._failed()
        self.__exit__()

    def _pipe(self) -> IO[bytes]:
        if self._process is None:
            self._process = self._git.open("fast-import", "--quiet", "--done", "--depth=0", stderr=self._errors)
            # A write to a stuck fast-import would wait for ever.
            self._watch = threading.Timer(self._deadline.left(), _kill, [self._process])
            self._watch.daemon = True
            self._watch.start()
        assert self._process.stdin is not None
        return self._process.stdin

    def _write(self, *parts: bytes) -> None:
        pipe = self._pipe()
        try:
            for part in parts:
                pipe.write(part)
        except OSError as e:
            raise self._failed() from e

    def _flush(self) -> None:
        try:
            self._pipe().flush()
        except OSError as e:
            raise self._failed() from e

    def _answer(self) -> str:
        self._flush()
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._failed()
        return line.decode("ascii", "replace").strip()

    def _failed(self) -> SaveFailed:
        if self._deadline.left() <= 0:
            return SaveFailed(SaveReason.DEADLINE, "the time was up while the files were packed")
        if self._process is not None:
            end_group(self._process)
        said = redact(os.pread(self._errors, SAID, 0).decode(errors="replace"))
        return GitFailed(reason_of(said), "git fast-import failed", said)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _quoted(path: bytes) -> bytes:
    if b"\n" not in path and b'"' not in path and b"\\" not in path:
        return path
    return b'"' + path.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


# Reading the files


def read_files(git: Git, paths: Iterable[bytes], seen: Seen, importer: Importer, deadline: Deadline) -> Capture:
    """Return the entries of these paths; new content goes to the importer."""
    capture = Capture()
    reader = _Reader(seen, importer, capture)
    with Tree(git.settings.workspace) as tree:
        for number, path in enumerate(paths):
            if number % 256 == 0:
                deadline.check("the files were read")
            if is_forbidden(path):
                capture.unreadable.append(path)
                continue
            try:
                entry = reader.entry(tree, path)
            except PermissionError:
                capture.unreadable.append(path)
                continue
            except OSError as e:
                # Gone, or something else by now: the next save sees what became of it.
                if e.errno not in _VANISHED:
                    capture.unreadable.append(path)
                continue
            if entry:
                capture.entries[path] = entry
    if reader.torn:
        capture.notes.append(f"changed while they were read, saved as last seen: {shown(reader.torn)}")
    return capture


_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class _Reader:
    def __init__(self, seen: Seen, importer: Importer, capture: Capture) -> None:
        self._seen = seen
        self._importer = importer
        self._capture = capture
        self.torn: list[bytes] = []

    def entry(self, tree: Tree, path: bytes) -> tuple[str, str] | None:
        """Return mode and content id of what is at the path, None for what git does not keep. Raises OSError."""
        state = tree.lstat(path)
        if stat.S_ISLNK(state.st_mode):
            target = tree.readlink(path)
            content = blob_id(target)
            self._importer.blob(content, target)
            return LINK, content
        if not stat.S_ISREG(state.st_mode):
            return None
        mode = PROGRAM if state.st_mode & stat.S_IXUSR else FILE
        signature = Signature.of(state)
        content = self._seen.get(path, signature) or ""
        if not content:
            content = self._read(tree, path)
            self._capture.read += 1
        return mode, content

    def _read(self, tree: Tree, path: bytes) -> str:
        """Return the id of the file's content at one moment; of what was read last, if it does not hold still."""
        content = ""
        for _ in range(MOST_TORN):
            read_at = time.time_ns()
            descriptor = tree.open(path)
            try:
                before = Signature.of(os.fstat(descriptor))
                whole, content = self._read_once(descriptor, before.size)
                if whole and Signature.of(os.fstat(descriptor)) == before:
                    self._seen.put(path, before, content, read_at)
                    return content
            finally:
                os.close(descriptor)
        self.torn.append(path)
        return content

    def _read_once(self, descriptor: int, size: int) -> tuple[bool, str]:
        if size > IN_MEMORY:
            return self._stream(descriptor, size)
        data = read_whole(descriptor, size + 1)
        content = blob_id(data)
        self._importer.blob(content, data)
        return len(data) == size, content

    def _stream(self, descriptor: int, size: int) -> tuple[bool, str]:
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for data in _chunks(descriptor, size):
            digest.update(data)
        if (content := digest.hexdigest()) in self._importer.known:
            return True, content
        os.lseek(descriptor, 0, os.SEEK_SET)
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        self._importer.begin_blob(size)
        short = size
        for data in _chunks(descriptor, size):
            self._importer.more(data)
            digest.update(data)
            short -= len(data)
        while short:
            # It shrank while it was read. So many bytes were announced; this blob is never used unless it stays so.
            padding = bytes(min(short, CHUNK))
            self._importer.more(padding)
            digest.update(padding)
            short -= len(padding)
        self._importer.more(b"\n")
        content = digest.hexdigest()
        self._importer.known.add(content)
        return True, content


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    left = size
    while left > 0 and (data := os.read(descriptor, min(left, CHUNK))):
        left -= len(data)
        yield data


# Trees


def tree_entries(git: Git, commit: str, deadline: Deadline) -> Entries:
    """Return what a commit's tree holds."""
    entries: Entries = {}
    if commit:
        for line in git.run("ls-tree", "-r", "-z", "--full-tree", commit, deadline=deadline).out.split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, sha = about.decode().split(" ")
            entries[path] = (mode, sha)
    return entries


def add_submodules(capture: Capture, tracked: Mapping[bytes, tuple[str, str]], git: Git) -> None:
    """Keep the commit of each submodule that has no files here; of one that has, the files are saved instead."""
    listed = sorted(capture.entries)
    filled = []
    with Tree(git.settings.workspace) as tree:
        for path, (mode, sha) in tracked.items():
            if mode != SUBMODULE or path in capture.entries:
                continue
            place = bisect.bisect_left(listed, path + b"/")
            if place < len(listed) and listed[place].startswith(path + b"/"):
                filled.append(path)
            elif _is_directory(tree, path):
                capture.entries[path] = (SUBMODULE, sha)
    if filled:
        capture.notes.append(f"submodules: files are saved, commits inside are not: {shown(filled)}")


def _is_directory(tree: Tree, path: bytes) -> bool:
    try:
        return stat.S_ISDIR(tree.lstat(path).st_mode)
    except OSError:
        return False


def add_sparse(capture: Capture, index: Mapping[bytes, list[Staged]], known: set[str]) -> None:
    """Keep what a sparse checkout left out of the workspace on purpose: it is not deleted."""
    for path, stages in index.items():
        one = stages[0]
        if one.absent_on_purpose and one.sha in known and not _is_taken(capture.entries, path):
            capture.entries[path] = (one.mode, one.sha)


def _is_taken(entries: Entries, path: bytes) -> bool:
    """Whether there is something at the path, or a file where it would need a folder."""
    while path:
        if path in entries:
            return True
        path = path.rpartition(b"/")[0]
    return False


def staged_entries(index: Mapping[bytes, list[Staged]], head: Entries) -> Entries:
    """Return the tree that the user's index stands for; a path in conflict is as in HEAD."""
    entries: Entries = {}
    for path, stages in index.items():
        if len(stages) == 1 and stages[0].stage == 0:
            entries[path] = (stages[0].mode, stages[0].sha)
        elif path in head:
            entries[path] = head[path]
    return entries


def bring_staged(git: Git, staged: Entries, importer: Importer, deadline: Deadline) -> tuple[bytes, ...]:
    """Bring over content that is only in the user's index; return the paths whose content could not be had."""
    importer.blob(EMPTY_BLOB, b"")
    wanted = [sha for mode, sha in staged.values() if mode != SUBMODULE and sha not in importer.known]
    lost = set(fetch(git, wanted, deadline))
    importer.known.update(set(wanted) - lost)
    return tuple(path for path, (mode, sha) in staged.items() if mode != SUBMODULE and sha in lost)
