"""Saving the workspace: what is where, what the remote must get, and the receipt of what it has.

Nothing of the workspace moves: neither HEAD nor index nor files, and no lock is taken in it. What goes to the remote:

    edit/{id}/wip          uncommitted work, each commit a child of the last; also holds every commit no branch has
    the user's branches    where the local one is ahead and the remote has one of that name: fast-forward only
    rescue/{id}/{time}     what was refused there, or has diverged

A branch that the remote does not have is not created there, since a new branch may deploy as well; its commits are in
the wip commit. (An empty remote is the exception: nothing can be deployed from it.)
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from functools import cached_property

from controller.agent import capture as files
from controller.agent import state, untrusted, wip
from controller.agent.capture import Capture, Entries, Importer, Seen
from controller.agent.failures import GitFailed, SaveFailed
from controller.agent.files import fit, shown
from controller.agent.git import Deadline, Git
from controller.agent.log import log
from controller.agent.protocol import Receipt, SaveReason, SaveState
from controller.agent.remote import Remote, RemoteRefs, have, tracking
from controller.agent.settings import SaveTo, Settings
from controller.agent.untrusted import Local
from controller.errors import ConfigError, EditctlError

VERIFY_RESERVE = 5.0
"""Seconds kept back for asking the remote what it has."""
VERIFY_SHARE = 0.1
MOST_RESCUED = 20


def save(settings: Settings, deadline: Deadline, *, ask_again: bool = True) -> Receipt:
    """Save the workspace and return the receipt; never raises what a workspace or remote can cause.

    ask_again: ask the remote even when nothing changed since it last confirmed everything.
    """
    started = time.time()
    try:
        receipt = _save(settings, deadline, ask_again)
    except SaveFailed as e:
        receipt = _failed(settings, e.reason, e)
    except ConfigError as e:
        receipt = _failed(settings, SaveReason.GIT_FAILED, e)
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        receipt = _failed(settings, SaveReason.DISK_FULL if full else SaveReason.GIT_FAILED, e)
    except Exception as e:  # the receipt is how a failure is told; without one it would be silent
        log("saveCrashed", error=repr(e))
        receipt = _failed(settings, SaveReason.CRASHED, e)
    return replace(receipt, milliseconds=round((time.time() - started) * 1000))


def _save(settings: Settings, deadline: Deadline, ask_again: bool) -> Receipt:
    if settings.save_to is SaveTo.NONE:
        return Receipt(SaveState.SAVED, _now(), SaveReason.NOT_ASKED_FOR, "EDIT_SAVE_TO=none")
    untrusted.require_workspace(settings)
    git = Git(settings)
    try:
        receipt = _attempt(git, deadline, ask_again)
    except (SaveFailed, OSError) as e:
        if not _is_disk_full(e) or not state.give_up_reserve(settings.state):
            raise
        log("reserveGivenUp", bytes=settings.reserve)
        receipt = _attempt(git, deadline, ask_again)
    state.keep_reserve(settings.state, settings.reserve)
    return receipt


def _is_disk_full(e: Exception) -> bool:
    if isinstance(e, SaveFailed):
        return e.reason is SaveReason.DISK_FULL
    return isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)


def _attempt(git: Git, deadline: Deadline, ask_again: bool) -> Receipt:
    with state.locked(git, deadline):
        try:
            return _Save(git, deadline, ask_again).run()
        except GitFailed as e:
            if e.reason is not SaveReason.GIT_FAILED:
                raise
            # Neither the remote nor the disk: our own repository may be damaged, and holds nothing that is not
            # in the workspace or at the remote.
            log("repositoryMadeAnew", what=e.what, said=e.said)
            state.begin_anew(git)
            return _Save(git, deadline, ask_again).run()


def _failed(settings: Settings, reason: SaveReason, e: Exception) -> Receipt:
    """Return the receipt of a failure; it names the last commit that the remote confirmed."""
    last = state.read_last(settings.state)
    lines = e.lines() if isinstance(e, EditctlError) else (str(e) or type(e).__name__,)
    known = last.receipt if last else None
    return Receipt(
        SaveState.FAILED,
        _now(),
        reason,
        ": ".join(lines)[:1000],
        branch=known.branch if known else "",
        remote_commit=known.remote_commit if known else "",
    )


def _now() -> int:
    return round(time.time() * 1000)


@dataclass(frozen=True)
class Found:
    """Everything that is to be saved, already in the agent's repository."""

    local: Local
    capture: Capture
    tree: str
    index_tree: str
    """The staged state, empty when it is that of HEAD."""
    head_tree: str
    lost: tuple[str, ...] = ()
    """Commits that the workspace's repository names and does not have."""

    @cached_property
    def fingerprint(self) -> str:
        """What changes when there is something new to save."""
        local = self.local
        parts = [self.tree, self.index_tree, local.head, local.branch, sorted(local.branches.items())]
        parts += [[s.commit for s in local.stash], local.operation, local.extra]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def is_clean(self) -> bool:
        """Whether files and index are as HEAD has them."""
        return self.tree == self.head_tree and not self.index_tree

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not self.capture.unreadable and not self.lost


@dataclass(slots=True)
class Pushed:
    """What was given to the remote, and what became of it."""

    wanted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    rescues: dict[str, str] = field(default_factory=dict)


class _Save:
    """One save, from looking to the receipt."""

    def __init__(self, git: Git, deadline: Deadline, ask_again: bool) -> None:
        self.git = git
        self.settings = git.settings
        self.deadline = deadline
        self.work = deadline.minus(min(VERIFY_RESERVE, deadline.left() * VERIFY_SHARE))
        self.ask_again = ask_again
        self.remote = Remote(git)
        self.last = state.read_last(git.settings.state)
        self.notes: list[str] = []
        self.trouble: SaveFailed | None = None
        """Why the push broke off; what the remote has all the same is asked before it counts as a failure."""

    def run(self) -> Receipt:
        found = self._find()
        unchanged = self.last is not None and self.last.fingerprint == found.fingerprint
        if unchanged and not self.ask_again:
            return self._unchanged(found, "")
        if not self.settings.remote:
            raise SaveFailed(
                SaveReason.REMOTE_MISSING,
                "no remote is configured",
                "there is nowhere to save to",
                "set EDIT_REMOTE, or EDIT_SAVE_TO=none when nothing is to be saved",
            )
        try:
            refs = self.remote.refs(self.work)
        except SaveFailed as e:
            if not unchanged:
                raise
            return self._unchanged(found, f"it could not be asked again: {e.what}")
        refs = self._know(found.local, refs)
        if self.settings.save_to is SaveTo.BRANCH:
            return self._to_branch(found, refs)
        return self._to_wip(found, refs)

    # Looking

    def _find(self) -> Found:
        git, deadline = self.git, self.work
        local = untrusted.look(git, deadline)
        lost = self._fetch(local)
        untrusted.keep(git, set(local.commits) - set(lost), deadline)
        local = _without(local, lost)
        head = files.tree_entries(git, local.head, deadline)
        head_tree = self._tree_of(local.head) if local.head else files.EMPTY_TREE
        index, notes = untrusted.read_index(git, deadline) if local.is_repository else ({}, ())
        self.notes += [*local.notes, *notes]
        if lost:
            self.notes.append(f"commits that the workspace names and does not have: {', '.join(lost[:5])}")
        tracked: Entries = files.staged_entries(index, head) if index else head
        seen = Seen(self.settings.state / "seen.json")
        listing = files.list_files(git, [*head, *index], deadline)
        try:
            capture, tree, index_tree = self._read(listing, seen, head, head_tree, index, tracked)
        except GitFailed:
            seen.forget()
            raise
        seen.keep()
        return Found(local, capture, tree, index_tree, head_tree, lost)

    def _fetch(self, local: Local) -> tuple[str, ...]:
        """Bring the workspace's commits over; return those that could not be had."""
        lost = untrusted.fetch(self.git, local.commits, self.work)
        if not lost or not self.settings.remote:
            return lost
        # A partial clone has not everything that it names, and a damaged one neither: with what the remote has, less
        # is needed of it.
        try:
            self._know(local, self.remote.refs(self.work))
        except SaveFailed as e:
            log("remoteNotAsked", reason=str(e.reason), what=e.what)
            return lost
        return untrusted.fetch(self.git, lost, self.work)

    def _tree_of(self, commit: str) -> str:
        return self.git.text("rev-parse", f"{commit}^{{tree}}", deadline=self.work)

    def _read(
        self,
        listing: files.Listing,
        seen: Seen,
        head: Entries,
        head_tree: str,
        index: dict[bytes, list[untrusted.Staged]],
        tracked: Entries,
    ) -> tuple[Capture, str, str]:
        known = seen.ids() | {sha for mode, sha in head.values() if mode != files.SUBMODULE}
        with Importer(self.git, known, self.work) as importer:
            capture = files.read_files(self.git, listing.paths, seen, importer, self.work)
            capture.unreadable += listing.left_out
            capture.ignored = len(listing.ignored)
            files.add_submodules(capture, tracked, self.git)
            files.add_sparse(capture, index, importer.known)
            nested = [path for path in listing.nested if tracked.get(path, ("",))[0] != files.SUBMODULE]
            if nested:
                capture.notes.append(f"nested repositories: files are saved, their commits are not: {shown(nested)}")
            tree = self._tree(importer, capture, head, head_tree)
            index_tree = self._index_tree(importer, index, head, tracked)
            importer.finish()
        return capture, tree, index_tree

    def _tree(self, importer: Importer, capture: Capture, head: Entries, head_tree: str) -> str:
        if capture.entries == head:
            return head_tree
        if self.last and self.last.files == capture.fingerprint:
            return self.last.tree
        return importer.tree(capture.entries)

    def _index_tree(
        self, importer: Importer, index: dict[bytes, list[untrusted.Staged]], head: Entries, staged: Entries
    ) -> str:
        if not index or staged == head:
            return ""
        lost = files.bring_staged(self.git, staged, importer, self.work)
        if lost:
            self.notes.append(f"staged content that the workspace does not have: {shown(lost)}")
        return importer.tree({path: entry for path, entry in staged.items() if path not in set(lost)})

    # Deciding

    def _know(self, local: Local, refs: RemoteRefs) -> RemoteRefs:
        """Bring over those branches of the remote that are compared with something here."""
        ours = self.settings.refs.wip
        names = [*(ref for ref in local.branches if not self.settings.refs.is_reserved(ref)), ours]
        unknown = {refs.heads[ref] for ref in names if ref in refs.heads}
        unknown -= have(self.git, unknown, self.work)
        fetched = [ref for ref in names if refs.heads.get(ref) in unknown]
        if not fetched:
            return refs
        self.remote.fetch(fetched, self.work)
        tips = {ref: self.git.text("rev-parse", tracking(ref), deadline=self.work) for ref in fetched}
        return RemoteRefs({**refs.heads, **tips}, refs.default)

    def _known_tips(self, refs: RemoteRefs) -> set[str]:
        return have(self.git, refs.heads.values(), self.work)

    def _publishable(self, found: Found, refs: RemoteRefs) -> tuple[dict[str, str], dict[str, str]]:
        """Return the branches that can go to the remote as they are, and those that have diverged from it."""
        ahead: dict[str, str] = {}
        diverged: dict[str, str] = {}
        for ref, tip in found.local.branches.items():
            there = refs.heads.get(ref)
            if tip == there or self.settings.refs.is_reserved(ref):
                continue
            if there is None:
                if not refs.heads and ref == found.local.branch:
                    ahead[ref] = tip
            elif wip.is_ancestor(self.git, there, tip, self.work):
                ahead[ref] = tip
            elif not wip.is_ancestor(self.git, tip, there, self.work):
                diverged[ref] = tip
        return (ahead if self.settings.push_branches else {}), diverged

    # Saving to the wip branch

    def _to_wip(self, found: Found, refs: RemoteRefs) -> Receipt:
        ours = self.settings.refs.wip
        ahead, diverged = self._publishable(found, refs)
        commit = self._wip_commit(found, refs, ahead, needed=False)
        pushed = Pushed(dict(ahead))
        if commit:
            pushed.wanted[ours] = commit
        pushed.refused = self._push({ref: sha for ref, sha in pushed.wanted.items() if refs.heads.get(ref) != sha})
        if pushed.refused:
            commit = self._after_refusal(found, refs, pushed, commit)
        if self.trouble is None:
            self._rescue(refs, pushed, {**diverged, **{r: s for r, s in ahead.items() if r in pushed.refused}})
        return self._receipt(found, pushed, commit)

    def _wip_commit(self, found: Found, refs: RemoteRefs, ahead: dict[str, str], *, needed: bool) -> str:
        """Return the commit that the wip branch must have, empty when none is needed."""
        local, there = found.local, refs.heads.get(self.settings.refs.wip, "")
        tips = self._known_tips(refs)
        alone = wip.unpushed_tips(self.git, local.commits, tips, self.work)
        meta = wip.read_meta(self.git, there, self.work) if there else None
        if meta and meta.state == found.fingerprint and not alone:
            return there
        if not there and not needed and self._is_plain(found, refs, set(alone) - set(ahead.values())):
            return ""
        return self._make_wip(found, there, alone)

    @staticmethod
    def _is_plain(found: Found, refs: RemoteRefs, alone: set[str]) -> bool:
        """Whether the remote's own branches say everything about this workspace."""
        local = found.local
        at_home = bool(local.branch) and local.branch == (refs.default or local.branch)
        untouched = not local.head and not found.capture.entries
        return found.is_clean and not (local.stash or local.operation or alone) and (at_home or untouched)

    def _make_wip(self, found: Found, previous: str, alone: tuple[str, ...]) -> str:
        git, local = self.git, found.local
        index = ""
        if found.index_tree:
            parents = [local.head] if local.head else []
            index = wip.commit_tree(git, found.index_tree, parents, "Staged state\n", self.work)
        parents = [each for each in (previous, local.head, index, *alone) if each]
        identity = self.settings.identity
        text = wip.message(str(identity) if identity else "a container", local, found.fingerprint, index)
        return wip.commit_tree(git, found.tree, parents, text, self.work)

    def _after_refusal(self, found: Found, refs: RemoteRefs, pushed: Pushed, commit: str) -> str:
        """Try again without what was refused: a hook may refuse all for the sake of one; another may have pushed."""
        ours = self.settings.refs.wip
        now = self._know(found.local, self.remote.refs(self.work))
        pushed.refused = {ref: why for ref, why in pushed.refused.items() if now.heads.get(ref) != pushed.wanted[ref]}
        if ours in pushed.wanted and ours not in pushed.refused:
            return commit
        commit = self._wip_commit(found, now, {}, needed=True)
        pushed.wanted[ours] = commit
        pushed.refused.pop(ours, None)
        if now.heads.get(ours) != commit:
            pushed.refused |= self._push({ours: commit})
        return commit

    def _push(self, commits: dict[str, str]) -> dict[str, str]:
        try:
            return self.remote.push(commits, self.work)
        except SaveFailed as e:
            self.trouble = e
            return {}

    def _rescue(self, refs: RemoteRefs, pushed: Pushed, refused: dict[str, str]) -> None:
        """Give what no branch may have a ref of its own, unless a rescue ref has it already."""
        ours = self.settings.refs.wip
        if ours in pushed.refused:
            refused = {ours: pushed.wanted[ours], **refused}
        below = self.settings.refs.rescue
        rescued = have(self.git, (sha for ref, sha in refs.heads.items() if ref.startswith(below)), self.work)
        for ref, commit in list(refused.items())[:MOST_RESCUED]:
            found_there = self._rescued_already(refs, commit, rescued)
            if found_there:
                pushed.rescues[ref] = found_there
                pushed.wanted[found_there] = refs.heads[found_there]
                continue
            name = self._rescue_name(refs, pushed)
            try:
                why = self.remote.push({name: commit}, self.work)
            except GitFailed as e:
                why = {name: e.said or e.what}
            if why:
                self.notes.append(f"no rescue ref for {ref}: {why[name]}"[:400])
            else:
                pushed.rescues[ref] = name
                pushed.wanted[name] = commit

    def _rescued_already(self, refs: RemoteRefs, commit: str, rescued: set[str]) -> str:
        below = self.settings.refs.rescue
        candidates = [ref for ref, sha in refs.heads.items() if ref.startswith(below) and sha in rescued]
        return next((r for r in candidates if wip.is_ancestor(self.git, commit, refs.heads[r], self.work)), "")

    def _rescue_name(self, refs: RemoteRefs, pushed: Pushed) -> str:
        base = self.settings.refs.rescue + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        taken = {*refs.heads, *pushed.wanted}
        return next(n for n in (base, *(f"{base}-{i}" for i in range(2, 1000))) if n not in taken)

    # Saving to the user's branch

    def _to_branch(self, found: Found, refs: RemoteRefs) -> Receipt:
        """Commit everything onto the branch that is checked out, at the remote only, as the original script did."""
        local = found.local
        branch = local.branch or self.settings.branch or refs.default or "refs/heads/main"
        branch = branch if branch.startswith("refs/heads/") else f"refs/heads/{branch}"
        there = refs.heads.get(branch, "")
        parent = self._branch_parent(found, there, branch)
        commit = parent
        if not parent or self._tree_of(parent) != found.tree:
            commit = wip.commit_tree(self.git, found.tree, [parent] if parent else [], "Save\n", self.work)
        pushed = Pushed({branch: commit})
        if commit != there:
            pushed.refused = self._push({branch: commit})
        self._rescue(refs, pushed, {branch: commit} if branch in pushed.refused else {})
        return self._receipt(found, pushed, "" if branch in pushed.refused else commit, branch)

    def _branch_parent(self, found: Found, there: str, branch: str) -> str:
        """Return what the new commit stands on: HEAD, or what we put on top of HEAD the last time."""
        head = found.local.head
        if not there or not head or wip.is_ancestor(self.git, there, head, self.work):
            return head
        ours = self.last is not None and self.last.receipt.pushed.get(branch) == there
        return there if ours and wip.is_ancestor(self.git, head, there, self.work) else head

    # The receipt

    def _receipt(self, found: Found, pushed: Pushed, commit: str, kept_in: str = "") -> Receipt:
        """Ask the remote what it has, and say that."""
        try:
            there = self.remote.refs(self.deadline).heads
        except SaveFailed as e:
            if self.trouble is not None:
                raise self.trouble from e
            raise SaveFailed(SaveReason.NOT_VERIFIED, "the remote cannot be asked what it has", str(e)) from e
        ours = kept_in or self.settings.refs.wip
        confirmed = {ref: sha for ref, sha in pushed.wanted.items() if there.get(ref) == sha}
        place = pushed.rescues.get(ours, ours) if commit or ours in pushed.rescues else ""
        if place:
            wanted = pushed.wanted.get(ours, commit)
            safe = there.get(place) == pushed.wanted.get(place, wanted)
        else:
            place, wanted = found.local.branch, found.local.head
            safe = all(ref in confirmed for ref in pushed.wanted)
        if not safe and self.trouble is not None:
            raise self.trouble
        self._track(confirmed)
        receipt = Receipt(
            SaveState.SAVED if safe and found.complete else SaveState.PARTIAL if safe else SaveState.FAILED,
            _now(),
            branch=fit(place.removeprefix("refs/heads/")),
            commit=wanted,
            remote_commit=there.get(place, ""),
            rescue_ref=", ".join(ref for ref in dict.fromkeys(pushed.rescues.values()) if ref in there),
            pushed={fit(ref): sha for ref, sha in confirmed.items()},
            files=len(found.capture.entries),
            changed=found.capture.read,
            ignored=found.capture.ignored,
            notes=self._all_notes(found, pushed),
        )
        receipt = _explained(receipt, found, pushed)
        if receipt.saved:
            self._remember(found, receipt)
        return receipt

    def _track(self, confirmed: dict[str, str]) -> None:
        """Remember what the remote has, so that the next save has something to build on and to compare with."""
        told = "".join(f"update {tracking(ref)} {sha}\n" for ref, sha in confirmed.items())
        self.git.run("update-ref", "--stdin", deadline=self.deadline, stdin=told.encode("utf-8", "surrogateescape"))

    def _all_notes(self, found: Found, pushed: Pushed) -> tuple[str, ...]:
        refused = [f"{ref.removeprefix('refs/heads/')} was refused: {why}" for ref, why in pushed.refused.items()]
        unreadable = [f"not saved: {shown(found.capture.unreadable)}"] if found.capture.unreadable else []
        return tuple(fit(note)[:500] for note in (*unreadable, *refused, *self.notes, *found.capture.notes)[:20])

    def _remember(self, found: Found, receipt: Receipt) -> None:
        state.write_last(
            self.settings.state,
            state.Last(found.fingerprint, found.capture.fingerprint, found.tree, receipt),
        )

    def _unchanged(self, found: Found, why: str) -> Receipt:
        assert self.last is not None
        message = "nothing changed since the remote confirmed everything"
        return replace(
            self.last.receipt,
            at=_now(),
            reason=SaveReason.UNCHANGED,
            message=f"{message}; {why}" if why else message,
            changed=found.capture.read,
        )


def _explained(receipt: Receipt, found: Found, pushed: Pushed) -> Receipt:
    """Return the receipt with its reason and one sentence."""
    if receipt.state is SaveState.PARTIAL:
        what = shown(found.capture.unreadable) or ", ".join(found.lost[:5])
        return replace(receipt, reason=SaveReason.UNREADABLE, message=f"could not be read or kept: {what}"[:500])
    if receipt.state is SaveState.FAILED:
        if pushed.refused:
            why = "; ".join(f"{ref.removeprefix('refs/heads/')}: {text}" for ref, text in pushed.refused.items())
            return replace(receipt, reason=SaveReason.PUSH_REFUSED, message=fit(f"the remote refused {why}")[:1000])
        return replace(receipt, reason=SaveReason.NOT_VERIFIED, message="the remote says that it has something else")
    if pushed.rescues:
        return replace(
            receipt, reason=SaveReason.RESCUED, message=f"refused or diverged, kept as {receipt.rescue_ref}"[:500]
        )
    return receipt


def _without(local: Local, lost: tuple[str, ...]) -> Local:
    """Return what the workspace's repository has without the commits that could not be had."""
    if not lost:
        return local
    gone = set(lost)
    return replace(
        local,
        head="" if local.head in gone else local.head,
        branches={ref: sha for ref, sha in local.branches.items() if sha not in gone},
        stash=tuple(s for s in local.stash if s.commit not in gone),
        extra=tuple(sha for sha in local.extra if sha not in gone),
    )
