"""The commit that holds uncommitted work, and what it says about itself.

Its tree is the files. Its parents are, in this order: the wip commit before it (so every push is a fast-forward), the
commit that was checked out, the staged state when it differs, and every local commit that no remote branch has:
branches, stashes, an unfinished rebase. One ref then keeps all of it, and restore finds its way by the message.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.agent.failures import GitFailed
from controller.agent.git import Deadline, Git
from controller.agent.untrusted import Local, Stash

FORMAT = 1
_MARK = "\n\nedit-agent: "
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Meta:
    """What a wip commit says about itself. Others may write to the remote, so nothing is taken on trust."""

    state: str
    """The fingerprint of everything that was saved: equal means there is nothing to save."""
    branch: str = ""
    head: str = ""
    index: str = ""
    """The commit whose tree is the staged state, empty when it is that of head."""
    branches: dict[str, str] = field(default_factory=dict)
    stash: tuple[Stash, ...] = ()
    operation: str = ""


def message(container: str, local: Local, state: str, index: str) -> str:
    """Return the message of a wip commit."""
    body = {
        "format": FORMAT,
        "state": state,
        "branch": local.branch,
        "head": local.head,
        "index": index,
        "branches": local.branches,
        "stash": [[s.commit, s.message] for s in local.stash],
        "operation": local.operation,
    }
    return f"Work in progress of {container}{_MARK}{json.dumps(body)}\n"


def read_meta(git: Git, commit: str, deadline: Deadline) -> Meta | None:
    """Return what a wip commit says, None when it is not one that can be understood."""
    try:
        text = git.run("cat-file", "commit", commit, deadline=deadline).out.decode(errors="replace")
        body = json.loads(text.partition(_MARK)[2])
    except (GitFailed, ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        return None
    try:
        return Meta(
            state=str(body["state"]),
            branch=_ref(body["branch"]),
            head=_sha(body["head"]),
            index=_sha(body["index"]),
            branches={_ref(name): _sha(sha) for name, sha in dict(body["branches"]).items()},
            stash=tuple(Stash(_sha(sha), str(text)) for sha, text in body["stash"]),
            operation=str(body["operation"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _sha(value: Any) -> str:
    if not isinstance(value, str) or (value and (len(value) != 40 or not set(value) <= _HEX)):
        raise ValueError(value)
    return value


def _ref(value: Any) -> str:
    if not isinstance(value, str) or (value and not value.startswith("refs/heads/")) or "\n" in value:
        raise ValueError(value)
    return value


def commit_tree(git: Git, tree: str, parents: Iterable[str], text: str, deadline: Deadline) -> str:
    """Return a new commit with this tree and these parents."""
    name, _, address = git.settings.author.rpartition(" <")
    now = f"{int(time.time())} +0000"
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", name), ("EMAIL", address.rstrip(">")), ("DATE", now))
    }
    options = [option for parent in dict.fromkeys(parents) for option in ("-p", parent)]
    told = text.encode("utf-8", "surrogateescape")
    return git.text("commit-tree", *options, "-F", "-", tree, deadline=deadline, stdin=told, extra=who)


def unpushed_tips(git: Git, tips: Sequence[str], remote: Iterable[str], deadline: Deadline) -> tuple[str, ...]:
    """Return those tips that no commit of the remote and no other tip contains, in their order."""
    wanted = list(dict.fromkeys(tips))
    if not wanted:
        return ()
    told = "".join(f"{sha}\n" for sha in wanted) + "".join(f"^{sha}\n" for sha in remote)
    listed = git.run("rev-list", "--parents", "--stdin", deadline=deadline, stdin=told.encode()).out.decode()
    rows = [line.split(" ") for line in listed.splitlines()]
    new = {row[0] for row in rows}
    inner = {parent for row in rows for parent in row[1:]}
    return tuple(sha for sha in wanted if sha in new and sha not in inner)


def is_ancestor(git: Git, older: str, newer: str, deadline: Deadline) -> bool:
    """Whether the newer commit contains the older one."""
    return git.run("merge-base", "--is-ancestor", older, newer, deadline=deadline, allowed=(0, 1)).code == 0
