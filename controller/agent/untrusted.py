"""What the workspace's own repository has: branches, HEAD, stash, index. Read without trusting it.

Two ways only lead in. Small text files are opened by `files.Tree`, which follows no symlink and hands out no more than
a commit id or a branch name can be made of. Commits come over by `git fetch` from `git upload-pack`, the one command
that git hardens for a repository that belongs to somebody else: it takes neither hooks nor programs from that
repository's configuration. It runs as the workload's user when there is one, without a credential, with every
transport switched off (so that a partial clone cannot make it fetch), and index-pack on our side computes the name of
every object anew. Nothing is ever written into the workspace.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controller.agent.failures import GitFailed, SaveFailed
from controller.agent.files import Tree
from controller.agent.git import Deadline, Git, clean_environment, self_command
from controller.agent.protocol import SaveReason
from controller.agent.settings import Settings, User

MOST_BRANCHES = 500
MOST_STASHES = 100
MOST_FETCHED = 5000
_SHA = re.compile(rb"[0-9a-f]{40}")
_HEAD = re.compile(rb"ref: (refs/heads/[^\n]+)\n?")
_INDEX_LIMIT = 512 << 20

_OPERATIONS = (
    ("rebase", b"rebase-merge", (b"rebase-merge/orig-head", b"rebase-merge/onto", b"rebase-merge/stopped-sha")),
    ("rebase", b"rebase-apply/rebasing", (b"rebase-apply/orig-head", b"rebase-apply/onto")),
    ("am", b"rebase-apply/applying", ()),
    ("merge", b"MERGE_HEAD", (b"MERGE_HEAD",)),
    ("cherry-pick", b"CHERRY_PICK_HEAD", (b"CHERRY_PICK_HEAD",)),
    ("revert", b"REVERT_HEAD", (b"REVERT_HEAD",)),
    ("bisect", b"BISECT_LOG", ()),
)


@dataclass(frozen=True, slots=True)
class Stash:
    """One entry of the stash, newest first."""

    commit: str
    message: str


@dataclass(frozen=True, slots=True)
class Staged:
    """One entry of the user's index."""

    mode: str
    sha: str
    stage: int
    absent_on_purpose: bool
    """A sparse checkout left the file out."""


@dataclass(frozen=True, slots=True)
class Local:
    """What the workspace's repository says about itself; empty when there is none that can be read."""

    is_repository: bool = False
    head: str = ""
    """The commit that is checked out."""
    branch: str = ""
    """The branch that is checked out, as refs/heads/…; empty when HEAD is detached."""
    branches: dict[str, str] = field(default_factory=dict)
    stash: tuple[Stash, ...] = ()
    operation: str = ""
    """A merge, rebase, … that is not finished."""
    extra: tuple[str, ...] = ()
    """Commits that only the unfinished operation refers to."""
    notes: tuple[str, ...] = ()

    @property
    def commits(self) -> tuple[str, ...]:
        """Return every commit that must not be lost, each once."""
        tips = [self.head, *self.branches.values(), *(s.commit for s in self.stash), *self.extra]
        return tuple(dict.fromkeys(tip for tip in tips if tip))


def look(git: Git, deadline: Deadline) -> Local:
    """Return what the workspace's repository has. A repository that cannot be read is a note, not a failure."""
    workspace = git.settings.workspace
    with Tree(workspace) as tree:
        try:
            tree.lstat(b".git")
        except OSError:
            return Local(notes=("the workspace has no .git: files are saved, there are no commits",))
        head_text = tree.read_small(b".git/HEAD", 4096)
        operation, extra = _operation(tree)
        logged = _stash_log(tree.read_small(b".git/logs/refs/stash", 8 << 20))
    try:
        refs, target = _advertised(git, workspace, deadline)
    except GitFailed as e:
        return Local(notes=(f"the workspace's repository cannot be read, only its files are saved: {e.said[:300]}",))
    match = _HEAD.fullmatch(head_text)
    branch = target or (os.fsdecode(match[1]) if match else "")
    branches = {ref: sha for ref, sha in refs.items() if ref.startswith("refs/heads/")}
    notes = []
    if len(branches) > MOST_BRANCHES:
        notes.append(f"{len(branches)} local branches: the first {MOST_BRANCHES} by name are looked after")
        branches = {ref: branches[ref] for ref in [*sorted(branches)[:MOST_BRANCHES], branch] if ref in branches}
    if operation:
        notes.append(f"a {operation} is in progress: its files and commits are saved, not its state")
    return Local(
        is_repository=True,
        head=refs.get("HEAD", ""),
        branch=branch,
        branches=branches,
        stash=_stash(refs.get("refs/stash", ""), logged),
        operation=operation,
        extra=extra,
        notes=tuple(notes),
    )


def _operation(tree: Tree) -> tuple[str, tuple[str, ...]]:
    for name, witness, files in _OPERATIONS:
        try:
            tree.lstat(b".git/" + witness)
        except OSError:
            continue
        found = [sha for file in files for sha in _SHA.findall(tree.read_small(b".git/" + file, 4096))]
        return name, tuple(dict.fromkeys(sha.decode() for sha in found))
    return "", ()


def _stash_log(text: bytes) -> list[Stash]:
    entries = []
    for line in text.splitlines()[-MOST_STASHES:]:
        left, _, message = line.partition(b"\t")
        words = left.split(b" ")
        if len(words) > 2 and _SHA.fullmatch(words[1]):
            entries.append(Stash(words[1].decode(), message.decode(errors="replace")[:500]))
    return entries[::-1]


def _stash(newest: str, logged: Sequence[Stash]) -> tuple[Stash, ...]:
    if not newest:
        return ()
    return tuple(logged) if logged and logged[0].commit == newest else (Stash(newest, "stash"), *logged)


def _advertised(git: Git, workspace: Path, deadline: Deadline) -> tuple[dict[str, str], str]:
    """Return the refs that the workspace's repository offers and the branch that its HEAD names, if it has commits."""
    listed = _from_workspace(git, ["ls-remote", "--symref"], workspace, [], deadline)
    refs: dict[str, str] = {}
    target = ""
    for line in listed.decode(errors="surrogateescape").splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            target = value[5:]
        elif not name.endswith("^{}"):
            refs[name] = value
    return refs, target


def fetch(git: Git, commits: Iterable[str], deadline: Deadline) -> tuple[str, ...]:
    """Bring objects over from the workspace; return those that could not be had."""
    wanted = missing(git, commits, deadline)
    if not wanted:
        return ()
    try:
        _from_workspace(git, _FETCH, git.settings.workspace, wanted[:MOST_FETCHED], deadline)
    except GitFailed as e:
        if e.reason is SaveReason.DISK_FULL:
            raise
        for one in wanted[:MOST_FETCHED] if len(wanted) > 1 else ():
            _try_one(git, one, deadline)
    return missing(git, wanted, deadline)


def keep(git: Git, commits: Iterable[str], deadline: Deadline) -> None:
    """Give fetched commits a ref, so that the next fetch brings only what is new since."""
    told = "".join(f"update refs/workspace/{sha} {sha}\n" for sha in commits)
    git.run("update-ref", "--stdin", deadline=deadline, stdin=told.encode())


_FETCH = [
    "fetch",
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-recurse-submodules",
    "--no-auto-maintenance",
    "--update-shallow",
    "--stdin",
]


def _try_one(git: Git, commit: str, deadline: Deadline) -> None:
    """Fetch one object alone: one that is gone must not keep the others from being saved."""
    try:
        _from_workspace(git, _FETCH, git.settings.workspace, [commit], deadline)
    except GitFailed as e:
        if e.reason is SaveReason.DISK_FULL:
            raise


def missing(git: Git, objects: Iterable[str], deadline: Deadline) -> tuple[str, ...]:
    """Return which of these objects the agent's repository does not have."""
    wanted = list(dict.fromkeys(objects))
    if not wanted:
        return ()
    told = "".join(f"{sha}\n" for sha in wanted).encode()
    lines = git.run("cat-file", "--batch-check=%(objectname)", deadline=deadline, stdin=told).out.decode().splitlines()
    return tuple(sha for sha, line in zip(wanted, lines, strict=True) if line.endswith(" missing"))


def _from_workspace(git: Git, command: Sequence[str], path: Path, wanted: Sequence[str], deadline: Deadline) -> bytes:
    helper = shlex.join(self_command("upload-pack", _user_text(git.settings.user), git.program))
    arguments = [command[0], f"--upload-pack={helper}", *command[1:], str(path)]
    told = "".join(f"{sha}\n" for sha in wanted).encode()
    extra = {"GIT_ALLOW_PROTOCOL": "file"}
    return git.run(*arguments, deadline=deadline, stdin=told, extra=extra).out


def _user_text(user: User | None) -> str:
    return f"{user.uid}:{user.gid}" if user else "-"


def serve_workspace(user: str, program: str, arguments: Sequence[str]) -> None:
    """Become `git upload-pack` on an untrusted repository: the far end of `fetch`. Does not return.

    uploadpack.packObjectsHook needs no override: git takes it from system and user configuration only.
    """
    protocol = os.environ.get("GIT_PROTOCOL", "")
    os.closerange(3, 256)
    if user != "-":
        uid, gid = (int(part) for part in user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    overrides = (
        ("safe.directory", "*"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("core.hooksPath", os.devnull),
        ("core.fsmonitor", "false"),
        ("core.alternateRefsCommand", "false"),
        ("core.sshCommand", "false"),
        ("core.gitProxy", "false"),
        ("credential.helper", ""),
        ("gc.auto", "0"),
    )
    environment = clean_environment(Path("/nonexistent"), "")
    environment |= {"GIT_PROTOCOL": protocol, "GIT_CONFIG_COUNT": str(len(overrides))}
    for number, (key, value) in enumerate(overrides):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    os.execve(program, ["git", "upload-pack", "--timeout=60", *arguments], environment)


def read_index(git: Git, deadline: Deadline) -> tuple[dict[bytes, list[Staged]], tuple[str, ...]]:
    """Return the user's index, path by path, and what is to be said when it cannot be read.

    A copy is read, by git on the agent's repository: the original is neither locked nor refreshed.
    """
    with Tree(git.settings.workspace) as tree:
        data = tree.read_small(b".git/index", _INDEX_LIMIT)
    if not data:
        return {}, ()
    copy = git.settings.state / "index-copy"
    copy.write_bytes(data)
    try:
        listed = git.run("ls-files", "-z", "--stage", "-t", deadline=deadline, extra={"GIT_INDEX_FILE": str(copy)})
    except GitFailed as e:
        return {}, (f"the workspace's index cannot be read, what was staged is saved as the files are: {e.said[:200]}",)
    finally:
        copy.unlink()
    entries: dict[bytes, list[Staged]] = {}
    for line in listed.out.split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        tag, mode, sha, stage = about.decode().split(" ")
        entries.setdefault(path, []).append(Staged(mode, sha, int(stage), tag == "S"))
    return entries, ()


def require_workspace(settings: Settings) -> None:
    """Raise SaveFailed when there is no directory to save."""
    try:
        Tree(settings.workspace).__exit__(None, None, None)
    except OSError as e:
        raise SaveFailed(
            SaveReason.WORKSPACE_GONE, f"the workspace {settings.workspace} cannot be opened", e.strerror or str(e)
        ) from e
