"""What a save does with everything that a workspace can be."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from controller.agent.capture import Seen
from controller.agent.files import Signature
from controller.agent.protocol import Receipt, SaveReason, SaveState
from tests.agent.world import Container, Remote, git


def saved(container: Container, **changed: Any) -> Receipt:
    """Save, insist that it worked and that the receipt is what the remote has."""
    receipt = container.save(**changed)
    assert receipt.state is SaveState.SAVED, receipt
    refs = container.remote.refs()
    assert all(refs[ref] == sha for ref, sha in receipt.pushed.items())
    if receipt.branch:
        assert refs[f"refs/heads/{receipt.branch}"] == receipt.remote_commit
    assert container.remote.fsck() == ""
    return receipt


def test_nothing_to_save_pushes_nothing(container):
    before = container.remote.refs()
    receipt = saved(container)
    assert container.remote.refs() == before
    assert (receipt.branch, receipt.commit) == ("main", container.git("rev-parse", "HEAD"))


def test_uncommitted_work_goes_to_the_wip_branch(container):
    container.write("README.md", "changed\n")
    receipt = saved(container)
    assert receipt.branch == "edit/acme-site-ann@acme.io/wip"
    assert container.remote.tree(container.wip) == {b"README.md": ("100644", b"changed\n")}
    assert container.remote.tree("main") == {b"README.md": ("100644", b"hello\n")}


def test_untracked_files_are_saved(container):
    container.write("new/deep/file.txt", "new\n")
    saved(container)
    assert container.remote.tree(container.wip)[b"new/deep/file.txt"] == ("100644", b"new\n")


def test_ignored_files_are_counted_and_not_saved(container):
    container.write(".gitignore", "*.log\nnode_modules/\n")
    container.write("debug.log")
    container.write("node_modules/left-pad/index.js")
    container.write("node_modules/right-pad/index.js")
    receipt = saved(container)
    assert set(container.remote.tree(container.wip)) == {b"README.md", b".gitignore"}
    assert receipt.ignored == 2


def test_rules_in_info_exclude_count(container):
    (container.workspace / ".git/info").mkdir(exist_ok=True)
    (container.workspace / ".git/info/exclude").write_text("private/\n")
    container.write("private/diary.txt")
    container.write("public.txt")
    saved(container)
    assert b"public.txt" in container.remote.tree(container.wip)
    assert b"private/diary.txt" not in container.remote.tree(container.wip)


def test_an_ignored_file_that_is_tracked_is_saved(container):
    container.write(".gitignore", "*.log\n")
    container.commit("kept.log", "committed\n")
    container.write("kept.log", "changed\n")
    container.write("staged.log", "staged\n")
    container.git("add", "--force", "staged.log")
    receipt = saved(container)
    tree = container.remote.tree(container.wip)
    assert tree[b"kept.log"][1] == b"changed\n"
    assert tree[b"staged.log"][1] == b"staged\n"
    assert receipt.ignored == 0


def test_deletions_renames_modes_and_symlinks(container):
    container.commit("old.txt", "moved\n")
    container.commit("gone.txt")
    container.git("push", "--quiet", "origin", "main")
    (container.workspace / "old.txt").rename(container.workspace / "new.txt")
    (container.workspace / "gone.txt").unlink()
    container.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (container.workspace / "link").symlink_to("README.md")
    (container.workspace / "folder-link").symlink_to("/etc")
    saved(container)
    assert container.remote.tree(container.wip) == {
        b"README.md": ("100644", b"hello\n"),
        b"new.txt": ("100644", b"moved\n"),
        b"run.sh": ("100755", b"#!/bin/sh\n"),
        b"link": ("120000", b"README.md"),
        b"folder-link": ("120000", b"/etc"),
    }


def test_a_file_that_became_a_folder_and_the_other_way_round(container):
    container.commit("a", "file\n")
    container.commit("b/c", "in folder\n")
    (container.workspace / "a").unlink()
    container.write("a/x", "now a folder\n")
    (container.workspace / "b/c").unlink()
    (container.workspace / "b").rmdir()
    container.write("b", "now a file\n")
    saved(container)
    assert set(container.remote.tree(container.wip)) == {b"README.md", b"a/x", b"b"}


@pytest.mark.parametrize(
    "name",
    [
        b"with space",
        b'"quoted"',
        b"new\nline",
        b"tab\there",
        b"back\\slash",
        b"\xff\xfe",
        "grün".encode(),
        b"-rf",
        b"git~1/x",
    ],
)
def test_names_of_any_bytes(container, name):
    path = Path(os.fsdecode(os.fsencode(container.workspace) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"named\n")
    container.save()
    assert container.remote.tree(container.wip)[name] == ("100644", b"named\n")


def test_line_ends_and_encodings_are_saved_as_they_are(container):
    container.write(".gitattributes", "* text=auto eol=lf\n*.u16 working-tree-encoding=UTF-16\n*.id ident\n")
    raw = {b"dos.txt": b"a\r\nb\r\n", b"x.u16": "\ufeffhé\n".encode("utf-16-le"), b"v.id": b"$Id$\n"}
    for name, content in raw.items():
        container.write(name.decode(), content)
    saved(container)
    tree = container.remote.tree(container.wip)
    assert {name: tree[name][1] for name in raw} == raw


def test_nothing_of_the_workspace_moves(container):
    container.commit("a.txt")
    container.write("a.txt", "changed\n")
    container.write("staged.txt")
    container.git("add", "staged.txt")
    container.write("untracked.txt")
    before = container.everything()
    saved(container)
    assert container.everything() == before


def test_each_wip_commit_is_a_child_of_the_last(container):
    commits = []
    for number in range(3):
        container.write("a.txt", f"{number}\n")
        commits.append(saved(container).commit)
    assert len(set(commits)) == 3
    listed = git(container.remote.path, "rev-list", "--first-parent", "-3", container.wip).split()
    assert listed == commits[::-1]


def test_an_unchanged_workspace_makes_no_new_commit(container):
    container.write("a.txt")
    first = saved(container)
    assert saved(container).commit == first.commit
    unchanged = container.save(ask_again=False)
    assert (unchanged.reason, unchanged.commit) == (SaveReason.UNCHANGED, first.commit)


def test_an_unchanged_workspace_is_saved_although_the_remote_is_down(container):
    container.write("a.txt")
    first = saved(container)
    container.remote.path.rename(container.root / "away.git")
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.SAVED, SaveReason.UNCHANGED)
    assert (receipt.remote_commit, "could not be asked" in receipt.message) == (first.commit, True)


def test_a_change_of_the_same_size_in_the_same_moment_is_seen(container):
    file = container.write("a.txt", "one\n")
    saved(container)
    times = file.stat()
    file.write_text("two\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    saved(container)
    assert container.remote.tree(container.wip)[b"a.txt"][1] == b"two\n"


def test_what_changed_just_now_is_not_trusted_to_be_the_same_the_next_time(tmp_path):
    now = 1_772_445_600_000_000_000
    settled, fresh = Signature(4, now - 5 * 10**9, now - 5 * 10**9, 1), Signature(4, now, now, 2)
    seen = Seen(tmp_path / "seen.json")
    seen.put(b"settled", settled, "a" * 40, read_at=now)
    seen.put(b"fresh", fresh, "b" * 40, read_at=now)
    seen.keep()
    again = Seen(tmp_path / "seen.json")
    assert again.get(b"settled", settled) == "a" * 40
    assert again.get(b"settled", fresh) is None
    assert again.get(b"fresh", fresh) is None


# Commits


def test_a_branch_that_is_ahead_is_pushed_fast_forward(container):
    commit = container.commit("a.txt")
    receipt = saved(container)
    assert container.remote.refs() == {"refs/heads/main": commit}
    assert receipt.pushed == {"refs/heads/main": commit}


def test_branches_are_not_pushed_when_told_so(container):
    before = container.remote.refs()["refs/heads/main"]
    commit = container.commit("a.txt")
    saved(container, EDIT_PUSH_BRANCHES="false")
    assert container.remote.refs()["refs/heads/main"] == before
    assert container.remote.has(commit, container.wip)


def test_other_local_branches_that_are_ahead_are_pushed_too(container):
    container.git("push", "--quiet", "origin", "main:refs/heads/feature")
    container.git("switch", "--quiet", "--create", "feature")
    commit = container.commit("f.txt")
    container.git("switch", "--quiet", "main")
    saved(container)
    assert container.remote.refs()["refs/heads/feature"] == commit


@pytest.mark.parametrize("checked_out", ["main", "feature"])
def test_a_branch_without_upstream_is_kept_and_not_created_at_the_remote(container, checked_out):
    container.git("switch", "--quiet", "--create", "feature")
    commit = container.commit("f.txt")
    container.git("switch", "--quiet", checked_out)
    saved(container)
    assert set(container.remote.refs()) == {"refs/heads/main", container.wip}
    assert container.remote.has(commit, container.wip)


def test_a_detached_head_is_kept(container):
    container.git("checkout", "--quiet", "--detach")
    commit = container.commit("d.txt")
    container.git("switch", "--quiet", "main")
    container.git("checkout", "--quiet", commit)
    saved(container)
    assert container.remote.has(commit, container.wip)
    assert container.remote.refs()["refs/heads/main"] != commit


def test_every_stash_entry_is_kept(container):
    stashes = []
    for number in range(3):
        container.write("README.md", f"stash {number}\n")
        container.git("stash", "push", "--quiet")
        stashes.append(container.git("rev-parse", "refs/stash"))
    saved(container)
    assert all(container.remote.has(commit, container.wip) for commit in stashes)


def test_content_that_is_only_staged_is_kept(container):
    container.write("a.txt", "staged\n")
    container.git("add", "a.txt")
    blob = container.git("rev-parse", ":a.txt")
    container.write("a.txt", "in the file\n")
    saved(container)
    assert container.remote.tree(container.wip)[b"a.txt"][1] == b"in the file\n"
    assert container.remote.blob(blob) == b"staged\n"


def test_a_merge_in_progress(container):
    container.git("switch", "--quiet", "--create", "other")
    theirs = container.commit("README.md", "theirs\n")
    container.git("switch", "--quiet", "main")
    container.commit("README.md", "ours\n")
    container.git("merge", "other", check=False)
    assert (container.workspace / ".git/MERGE_HEAD").exists()
    before = container.everything()
    receipt = saved(container)
    assert container.everything() == before
    assert b"<<<<<<<" in container.remote.tree(container.wip)[b"README.md"][1]
    assert container.remote.has(theirs, container.wip)
    assert "a merge is in progress" in " ".join(receipt.notes)


def test_a_rebase_in_progress(container):
    base = container.git("rev-parse", "HEAD")
    container.git("switch", "--quiet", "--create", "topic")
    container.commit("a.txt", "one\n")
    tip = container.commit("README.md", "topic\n")
    container.git("switch", "--quiet", "main")
    onto = container.commit("README.md", "main\n")
    container.git("switch", "--quiet", "topic")
    container.git("rebase", "main", check=False)
    assert (container.workspace / ".git/rebase-merge").is_dir()
    receipt = saved(container)
    assert "a rebase is in progress" in " ".join(receipt.notes)
    for commit in (base, tip, onto, container.git("rev-parse", "HEAD")):
        assert any(container.remote.has(commit, ref) for ref in container.remote.refs())


def test_a_stale_index_lock_is_nothing_to_us(container):
    lock = container.workspace / ".git/index.lock"
    lock.touch()
    container.write("a.txt")
    saved(container)
    assert lock.exists()


def test_a_corrupt_index_is_said_and_the_files_are_saved(container):
    (container.workspace / ".git/index").write_bytes(b"DIRC\0\0\0\2 no index")
    container.write("a.txt")
    receipt = saved(container)
    assert b"a.txt" in container.remote.tree(container.wip)
    assert "index cannot be read" in " ".join(receipt.notes)


def test_a_corrupt_repository_is_said_and_the_files_are_saved(container):
    (container.workspace / ".git/HEAD").write_bytes(b"\0\0")
    container.write("a.txt")
    receipt = saved(container)
    assert b"a.txt" in container.remote.tree(container.wip)
    assert "cannot be read" in " ".join(receipt.notes)


def test_a_commit_whose_objects_are_gone_is_a_partial_save(container):
    container.save()
    container.commit("a.txt")
    container.git("switch", "--quiet", "--create", "broken")
    broken = container.commit("b.txt", "about to be lost\n")
    blob = container.git("rev-parse", "HEAD:b.txt")
    container.git("switch", "--quiet", "main")
    (container.workspace / ".git/objects" / blob[:2] / blob[2:]).unlink()
    container.write("c.txt")
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.PARTIAL, SaveReason.UNREADABLE)
    assert broken in receipt.message
    assert b"c.txt" in container.remote.tree(container.wip)
    assert container.remote.fsck() == ""


@pytest.mark.parametrize(
    "options", [("--depth=1",), ("--filter=blob:none",), ("--filter=tree:0",), ("--depth=2", "--single-branch")]
)
def test_a_clone_that_has_not_everything(container, options):
    for number in range(4):
        container.commit(f"{number}.txt", f"{number}\n")
    container.git("push", "--quiet", "origin", "main")
    git(container.remote.path, "config", "uploadpack.allowFilter", "true")
    clone = container.again("clone")
    git(clone.root, "clone", "--quiet", "--template=", *options, f"file://{clone.remote.path}", "workspace")
    commit = clone.commit("mine.txt")
    clone.write("uncommitted.txt")
    receipt = saved(clone)
    assert clone.remote.refs()["refs/heads/main"] == commit
    assert clone.remote.tree(receipt.commit) == clone.files()
    clone.commit("more.txt")
    saved(clone)


def test_objects_that_only_the_remote_still_has(container):
    blob = container.git("rev-parse", "HEAD:README.md")
    commit = container.commit("a.txt")
    (container.workspace / ".git/objects" / blob[:2] / blob[2:]).unlink()
    saved(container)
    assert container.remote.refs()["refs/heads/main"] == commit


def test_an_empty_repository_with_and_without_commits(tmp_path, container):
    empty = container.again("empty")
    empty.workspace.mkdir()
    empty.git("init", "--quiet", "--initial-branch=main")
    empty.write("a.txt")
    receipt = empty.save()
    assert receipt.saved, receipt
    assert b"a.txt" in empty.remote.tree(empty.wip)


def test_an_empty_remote_gets_the_branch(tmp_path):
    one = Container(tmp_path, Remote.make(tmp_path / "remote.git"))
    one.clone()
    commit = one.commit("a.txt")
    saved(one)
    assert one.remote.refs() == {"refs/heads/main": commit}


def test_an_empty_workspace_of_an_empty_remote(tmp_path):
    one = Container(tmp_path, Remote.make(tmp_path / "remote.git"))
    one.clone()
    assert one.save().saved
    assert one.remote.refs() == {}


def test_a_workspace_without_repository(container):
    one = container.again("plain")
    one.write("a.txt")
    receipt = one.save()
    assert receipt.saved
    assert one.remote.tree(one.wip) == {b"a.txt": ("100644", b"content\n")}


def test_all_files_deleted(container):
    (container.workspace / "README.md").unlink()
    saved(container)
    assert container.remote.tree(container.wip) == {}


# Inner repositories and odd files


def test_the_files_of_a_nested_repository_are_saved(container):
    container.write("vendor/lib/code.py", "code\n")
    git(container.workspace / "vendor/lib", "init", "--quiet")
    container.write("vendor/lib/.gitignore", "*.pyc\n")
    container.write("vendor/lib/code.pyc")
    container.write("vendor/lib/inner/x.py")
    git(container.workspace / "vendor/lib/inner", "init", "--quiet")
    receipt = saved(container)
    names = set(container.remote.tree(container.wip))
    assert names == {b"README.md", b"vendor/lib/code.py", b"vendor/lib/.gitignore", b"vendor/lib/inner/x.py"}
    assert "nested repositories" in " ".join(receipt.notes)


def test_a_submodule_that_is_not_filled_keeps_its_commit(container):
    commit = container.git("rev-parse", "HEAD")
    (container.workspace / "sub").mkdir()
    container.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    container.write("a.txt")
    saved(container)
    assert container.remote.tree(container.wip)[b"sub"] == ("160000", commit.encode())


def test_the_files_of_a_filled_submodule_are_saved(container):
    inner = container.again("inner")
    inner.clone()
    container.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.workspace), "sub")
    container.git("commit", "--quiet", "-m", "submodule")
    container.write("sub/README.md", "changed inside\n")
    receipt = saved(container)
    assert container.remote.tree(container.wip)[b"sub/README.md"][1] == b"changed inside\n"
    assert "submodules" in " ".join(receipt.notes)


def test_a_sparse_checkout_is_not_a_deletion(container):
    container.commit("kept/a.txt")
    container.commit("left-out/b.txt")
    container.git("sparse-checkout", "set", "kept")
    assert not (container.workspace / "left-out").exists()
    container.write("kept/a.txt", "changed\n")
    saved(container)
    assert b"left-out/b.txt" in container.remote.tree(container.wip)


def test_lfs_pointers_are_files_like_others(container):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12345\n"
    container.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    container.write("big.bin", pointer)
    saved(container)
    assert container.remote.tree(container.wip)[b"big.bin"][1] == pointer.encode()


def test_a_symlink_out_of_the_workspace_is_saved_as_a_link(container, tmp_path):
    (tmp_path / "secret").write_text("secret\n")
    (container.workspace / "out").symlink_to(tmp_path / "secret")
    saved(container)
    assert container.remote.tree(container.wip)[b"out"] == ("120000", os.fsencode(tmp_path / "secret"))


def test_sockets_and_pipes_are_passed_over(container):
    os.mkfifo(container.workspace / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(container.workspace / "socket"))
    server.close()
    container.write("a.txt")
    saved(container)
    assert set(container.remote.tree(container.wip)) == {b"README.md", b"a.txt"}


def test_a_name_that_git_forbids_is_a_partial_save(container):
    container.write("sub/.GIT/config", "x\n")
    container.write("a.txt")
    receipt = container.save()
    assert receipt.state is SaveState.PARTIAL
    assert "sub/.GIT/config" in receipt.message
    assert b"a.txt" in container.remote.tree(container.wip)


def test_a_large_file_is_streamed(container, monkeypatch):
    monkeypatch.setattr("controller.agent.capture.IN_MEMORY", 1000)
    content = os.urandom(3_000_000)
    container.write("big.bin", content)
    saved(container)
    assert container.remote.tree(container.wip)[b"big.bin"][1] == content


def test_many_branches_at_once(container):
    for number in range(30):
        container.git("branch", f"b{number}")
    container.git("switch", "--quiet", "b7")
    commit = container.commit("seven.txt")
    saved(container)
    assert container.remote.has(commit, container.wip)


def test_the_mode_of_the_agents_directory(container):
    container.write("a.txt")
    saved(container)
    assert stat.S_IMODE(container.state.stat().st_mode) == 0o700


# The other places to save to


def test_save_to_branch_does_as_the_original_did(container):
    head = container.git("rev-parse", "HEAD")
    container.write("a.txt", "one\n")
    receipt = saved(container, EDIT_SAVE_TO="branch")
    assert (receipt.branch, container.remote.tree("main")[b"a.txt"][1]) == ("main", b"one\n")
    container.write("a.txt", "two\n")
    saved(container, EDIT_SAVE_TO="branch")
    assert container.remote.tree("main")[b"a.txt"][1] == b"two\n"
    assert git(container.remote.path, "rev-list", "--count", "main") == "3"
    assert container.git("rev-parse", "HEAD") == head


def test_save_to_branch_never_overwrites(container):
    other = container.again("other")
    other.clone()
    theirs = other.commit("theirs.txt")
    other.git("push", "--quiet", "origin", "main")
    container.write("a.txt")
    receipt = container.save(EDIT_SAVE_TO="branch")
    assert container.remote.refs()["refs/heads/main"] == theirs
    assert receipt.saved
    assert list(container.rescues) == [receipt.rescue_ref]
    assert container.remote.tree(receipt.rescue_ref)[b"a.txt"][1] == b"content\n"


def test_nothing_is_saved_when_told_so(container):
    container.write("a.txt")
    receipt = container.save(EDIT_SAVE_TO="none")
    assert (receipt.saved, receipt.reason) == (True, SaveReason.NOT_ASKED_FOR)
    assert set(container.remote.refs()) == {"refs/heads/main"}


def test_without_a_remote_it_is_a_failure(container):
    receipt = container.save(EDIT_REMOTE="")
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.REMOTE_MISSING)


def test_without_a_workspace_it_is_a_failure(container):
    receipt = container.save(WORKSPACE_PATH=str(container.root / "nowhere"))
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.WORKSPACE_GONE)
