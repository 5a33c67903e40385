"""Filling an empty workspace with what was saved.

The agent's repository fetches from the remote; the workspace gets a repository of its own with the objects linked in,
so nothing is copied or fetched twice. Whatever writes into the workspace runs as the workload's user. Files of a wip
commit are written byte for byte (no line-end conversion, no filter); HEAD, branches, stash and staged state are put
back as they were, so the files show up as the uncommitted changes that they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controller.agent import state, wip
from controller.agent.failures import GitFailed, SaveFailed
from controller.agent.git import Deadline, Git, clean_environment, end_group, reason_of, redact
from controller.agent.protocol import SaveReason
from controller.agent.remote import Remote, RemoteRefs, have, tracking
from controller.agent.settings import SaveTo, Settings
from controller.agent.wip import Meta

ATTRIBUTES = "* -text !eol -ident -filter !working-tree-encoding\n"
"""In .git/info/attributes, the strongest of all: a file is written as it was saved, and no driver is ever looked up."""

_OVERRIDES = {
    "core.protectNTFS": "false",
    "core.protectHFS": "false",
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.logAllRefUpdates": "true",
    "gc.auto": "0",
    "advice.detachedHead": "false",
}


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put into the workspace."""

    message: str
    branch: str = ""
    head: str = ""
    wip: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as it is printed."""
        return {"message": self.message, "branch": self.branch, "head": self.head, "wip": self.wip}


def restore(settings: Settings, deadline: Deadline) -> Restored:
    """Fill the workspace if it is empty. Raises SaveFailed; a workspace that was begun is begun afresh next time."""
    git = Git(settings)
    with state.locked(git, deadline):
        unfinished = settings.state / "restoring"
        if unfinished.exists():
            _empty(settings.workspace)
        elif settings.workspace.is_dir() and any(settings.workspace.iterdir()):
            return Restored("the workspace is not empty: it is left as it is")
        unfinished.touch()
        _make_directory(settings)
        done = _Restore(git, deadline).run() if settings.remote else Restored("no remote is configured")
        unfinished.unlink()
    state.keep_reserve(settings.state, settings.reserve)
    return done


def _empty(workspace: Path) -> None:
    """Remove what an earlier restore left half done; the workload has never run on it."""
    if not workspace.is_dir():
        return
    for each in workspace.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _make_directory(settings: Settings) -> None:
    settings.workspace.mkdir(parents=True, exist_ok=True)
    if settings.user:
        os.chown(settings.workspace, settings.user.uid, settings.user.gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Aim:
    """Where HEAD, index and files are to be."""

    branch: str
    head: str
    wip: str = ""
    meta: Meta | None = None


class _Restore:
    def __init__(self, git: Git, deadline: Deadline) -> None:
        self.git = git
        self.settings = git.settings
        self.deadline = deadline

    def run(self) -> Restored:
        remote = Remote(self.git)
        refs = remote.refs(self.deadline)
        wanted = [ref for ref in refs.heads if not self.settings.refs.is_reserved(ref)]
        ours = self.settings.refs.wip
        if ours in refs.heads and self.settings.save_to is SaveTo.WIP:
            wanted.append(ours)
        remote.fetch(wanted, self.deadline, tags=True)
        heads = {ref: self.git.text("rev-parse", tracking(ref), deadline=self.deadline) for ref in wanted}
        aim = self._aim(RemoteRefs(heads, refs.default))
        self._make_repository()
        self._link_objects()
        self._set_refs(heads, refs.default, aim)
        self._write_files(aim)
        return Restored(_told(aim), aim.branch.removeprefix("refs/heads/"), aim.head, aim.wip)

    # Deciding

    def _aim(self, refs: RemoteRefs) -> Aim:
        ours = refs.heads.get(self.settings.refs.wip, "")
        meta = wip.read_meta(self.git, ours, self.deadline) if ours else None
        if meta is None or not self._has(meta):
            branch = self.settings.branch or refs.default or "refs/heads/main"
            branch = branch if branch.startswith("refs/heads/") else f"refs/heads/{branch}"
            return Aim(branch, refs.heads.get(branch, ""))
        there = refs.heads.get(meta.branch, "")
        if self._is_clean(ours, meta) and there and wip.is_ancestor(self.git, meta.head, there, self.deadline):
            # Nothing uncommitted stands on the old commit, so the newest is what the user expects.
            return Aim(meta.branch, there, "", meta)
        return Aim(meta.branch, meta.head, ours, meta)

    def _has(self, meta: Meta) -> bool:
        named = {sha for sha in (meta.head, meta.index) if sha}
        return have(self.git, named, self.deadline) == named

    def _is_clean(self, commit: str, meta: Meta) -> bool:
        return bool(meta.head) and not meta.index and self._tree(commit) == self._tree(meta.head)

    def _tree(self, commit: str) -> str:
        return self.git.text("rev-parse", f"{commit}^{{tree}}", deadline=self.deadline)

    # Making

    def _make_repository(self) -> None:
        self._there("init", "--quiet", "--template=", ".")
        self._there("config", "remote.origin.url", _without_user(self.settings.remote))
        self._there("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")

    def _link_objects(self) -> None:
        """Give the workspace every object that we have; nobody can write through the link who could not before."""
        source, target = self.git.dir / "objects", self.settings.workspace / ".git" / "objects"
        for folder, _, names in os.walk(source):
            into = target / Path(folder).relative_to(source)
            if not into.is_dir():
                into.mkdir()
                if self.settings.user:
                    os.chown(into, self.settings.user.uid, self.settings.user.gid)
            for name in names:
                if not name.startswith("tmp_") and into != target / "info":
                    _link(Path(folder) / name, into / name)

    def _set_refs(self, heads: Mapping[str, str], default: str, aim: Aim) -> None:
        remote = "refs/remotes/origin/"
        refs = {remote + r.removeprefix("refs/heads/"): s for r, s in heads.items() if r != self.settings.refs.wip}
        listed = self.git.text("for-each-ref", "--format=%(objectname) %(refname)", "refs/tags", deadline=self.deadline)
        refs |= {name: sha for sha, _, name in (line.partition(" ") for line in listed.splitlines())}
        if aim.meta:
            present = have(self.git, aim.meta.branches.values(), self.deadline)
            refs |= {ref: sha for ref, sha in aim.meta.branches.items() if sha in present}
        if aim.branch and aim.head:
            refs[aim.branch] = aim.head
        self._update(refs)
        if default in heads:
            self._there("symbolic-ref", f"{remote}HEAD", remote + default.removeprefix("refs/heads/"))
        if aim.branch:
            self._there("symbolic-ref", "HEAD", aim.branch)
        elif aim.head:
            self._there("update-ref", "--no-deref", "HEAD", aim.head)
        for ref in heads.keys() & refs.keys():
            name = ref.removeprefix("refs/heads/")
            self._there("config", f"branch.{name}.remote", "origin")
            self._there("config", f"branch.{name}.merge", ref)
        self._put_back_stash(aim)

    def _update(self, refs: Mapping[str, str]) -> None:
        """Set refs; all at once, or each alone when one of them is not possible."""
        lines = [f"update {ref} {sha}\n" for ref, sha in refs.items()]
        try:
            self._there("update-ref", "--stdin", stdin="".join(lines))
        except GitFailed:
            for line in lines:
                self._there("update-ref", "--stdin", stdin=line, allowed=(0, 1, 128))

    def _put_back_stash(self, aim: Aim) -> None:
        entries = aim.meta.stash if aim.meta else ()
        present = have(self.git, (s.commit for s in entries), self.deadline)
        for entry in reversed(entries):
            if entry.commit in present:
                text = entry.message.replace("\n", " ") or "stash"
                self._there("update-ref", "--create-reflog", "-m", text, "refs/stash", entry.commit)

    def _write_files(self, aim: Aim) -> None:
        if not aim.wip:
            if aim.head:
                self._there("reset", "--quiet", "--hard")
            return
        attributes = self.settings.workspace / ".git" / "info" / "attributes"
        self._put(attributes, ATTRIBUTES)
        draft = {"GIT_INDEX_FILE": str(self.settings.workspace / ".git" / "restoring")}
        self._there("read-tree", aim.wip, extra=draft)
        self._there("checkout-index", "--all", "--force", "--quiet", extra=draft)
        Path(draft["GIT_INDEX_FILE"]).unlink()
        attributes.unlink()
        staged = (aim.meta.index if aim.meta else "") or aim.head
        if staged:
            self._there("read-tree", staged)
            self._there("update-index", "-q", "--refresh", allowed=(0, 1))

    def _put(self, path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="ascii")
        if self.settings.user:
            os.chown(path.parent, self.settings.user.uid, self.settings.user.gid)

    def _there(
        self,
        *arguments: str,
        stdin: str = "",
        extra: Mapping[str, str] | None = None,
        allowed: Iterable[int] = (0,),
    ) -> None:
        """Run git in the workspace, as the workload's user. Only we have written there so far."""
        environment = clean_environment(Path("/nonexistent"), "") | dict(extra or {})
        environment |= {"GIT_CONFIG_COUNT": str(len(_OVERRIDES))}
        for number, (key, value) in enumerate(_OVERRIDES.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        name, _, address = self.settings.author.rpartition(" <")
        environment |= {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": address.rstrip(">")}
        user = self.settings.user
        process = subprocess.Popen(
            [self.git.program, *arguments],
            cwd=self.settings.workspace,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            umask=0o022,
        )
        with process:
            try:
                _, err = process.communicate(stdin.encode("utf-8", "surrogateescape"), timeout=self.deadline.left())
            except subprocess.TimeoutExpired:
                end_group(process)
                raise SaveFailed(SaveReason.DEADLINE, f"git {arguments[0]} was not done in time") from None
        if process.returncode not in allowed:
            said = redact(err.decode(errors="replace"))
            raise GitFailed(reason_of(said), f"git {arguments[0]} failed in the workspace", said)


def _told(aim: Aim) -> str:
    where = aim.branch.removeprefix("refs/heads/") or ("a detached HEAD" if aim.head else "nothing")
    if not aim.head and not aim.wip:
        return f"{where}, which has no commits yet"
    return f"{where} with uncommitted work" if aim.wip else where


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _without_user(remote: str) -> str:
    """Return the address without a user name, which is the agent's and not the workload's."""
    parts = urlsplit(remote)
    if not parts.scheme.startswith("http") or "@" not in parts.netloc:
        return remote
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
