"""What was saved comes back: byte for byte, as the uncommitted changes that it was."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.agent.failures import SaveFailed
from controller.agent.protocol import SaveState
from tests.agent.world import Container, Remote, copy_container, git

EXAMPLES = int(os.environ.get("AGENT_RESTORE_EXAMPLES", "12"))


def status(container: Container) -> list[str]:
    """Return what git says is changed, staged and untracked."""
    return sorted(container.git("status", "--porcelain=v1", "-z", "--untracked-files=all").split("\0"))


def refs(container: Container) -> dict[str, str]:
    """Return HEAD, the local branches and the stash."""
    listed = container.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/stash")
    return {"HEAD": container.git("symbolic-ref", "--quiet", "HEAD", check=False)} | dict(
        line.split(" ") for line in listed.splitlines()
    )


def saved_and_restored(container: Container) -> Container:
    """Save, and return the container that comes after."""
    receipt = container.save()
    assert receipt.state is SaveState.SAVED, receipt
    after = container.again()
    after.restore()
    return after


def same(before: Container, after: Container) -> None:
    """Insist that a user would not notice the difference."""
    assert after.files() == before.files()
    assert status(after) == status(before)
    assert refs(after) == refs(before)
    assert after.git("rev-parse", "HEAD", check=False) == before.git("rev-parse", "HEAD", check=False)


def test_uncommitted_work(container):
    container.commit("tracked.txt", "one\n")
    container.write("tracked.txt", "two\n")
    container.write("untracked.txt")
    container.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    (container.workspace / "link").symlink_to("nowhere")
    (container.workspace / "README.md").unlink()
    same(container, saved_and_restored(container))


def test_nothing_uncommitted(container):
    container.commit("a.txt")
    same(container, saved_and_restored(container))


def test_staged_state(container):
    container.commit("a.txt", "committed\n")
    container.write("a.txt", "staged\n")
    container.git("add", "a.txt")
    container.write("a.txt", "in the file\n")
    container.write("new.txt")
    container.git("add", "new.txt")
    container.write(".gitignore", "*.log\n")
    container.write("forced.log")
    container.git("add", "--force", "forced.log")
    container.git("rm", "--cached", "--quiet", "README.md")
    after = saved_and_restored(container)
    same(container, after)
    assert after.git("diff", "--cached") == container.git("diff", "--cached")
    again = after.save()
    assert b"forced.log" in after.remote.tree(again.commit)


def test_branches_stash_and_detached_head(container):
    container.git("switch", "--quiet", "--create", "feature/one")
    container.commit("f.txt")
    for number in range(3):
        container.write("f.txt", f"stash {number}\n")
        container.git("stash", "push", "--quiet", "-m", f"stash {number}")
    container.git("checkout", "--quiet", "--detach")
    container.commit("d.txt")
    container.write("d.txt", "changed\n")
    after = saved_and_restored(container)
    same(container, after)
    assert after.git("stash", "list") == container.git("stash", "list")
    assert after.git("stash", "show", "-p", "stash@{1}") == container.git("stash", "show", "-p", "stash@{1}")


def test_the_branch_that_was_checked_out(container):
    container.git("push", "--quiet", "origin", "main:refs/heads/feature")
    container.git("fetch", "--quiet")
    container.git("switch", "--quiet", "feature")
    after = saved_and_restored(container)
    same(container, after)
    assert after.git("rev-parse", "--abbrev-ref", "@{upstream}") == "origin/feature"


def test_a_restored_workspace_is_already_saved(container):
    container.write("a.txt")
    container.git("stash", "push", "--quiet", "--include-untracked")
    container.write("b.txt")
    first = container.save()
    after = container.again()
    after.restore()
    second = after.save()
    assert second.commit == first.commit


def test_what_was_saved_before_is_not_applied_twice(container):
    container.write("a.txt")
    container.save()
    container.git("add", "a.txt")
    container.git("commit", "--quiet", "-m", "a")
    after = saved_and_restored(container)
    same(container, after)
    assert status(after) == [""]


def test_a_clean_workspace_gets_what_was_pushed_since(container):
    container.write("a.txt")
    container.save()
    (container.workspace / "a.txt").unlink()
    assert container.save().saved
    other = container.again("other")
    other.clone()
    newest = other.commit("theirs.txt")
    other.git("push", "--quiet", "origin", "main")
    after = container.again("after")
    after.restore()
    assert after.git("rev-parse", "HEAD") == newest
    assert status(after) == [""]


def test_uncommitted_work_stays_on_the_commit_it_was_made_on(container):
    container.write("README.md", "mine\n")
    head = container.git("rev-parse", "HEAD")
    container.save()
    other = container.again("other")
    other.clone()
    other.commit("README.md", "theirs\n")
    other.git("push", "--quiet", "origin", "main")
    after = container.again("after")
    after.restore()
    assert after.git("rev-parse", "HEAD") == head
    same(container, after)
    assert after.git("status", "-sb").splitlines()[0] == "## main...origin/main [behind 1]"


def test_a_container_without_saved_work_gets_the_default_branch(container):
    after = container.again()
    after.restore()
    assert after.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert after.files() == container.files()


def test_a_configured_branch(container):
    container.git("push", "--quiet", "origin", "main:refs/heads/draft-acme")
    after = container.again()
    after.restore(EDIT_BRANCH="draft-{client}")
    assert after.git("symbolic-ref", "HEAD") == "refs/heads/draft-acme"


def test_tags_come_along(container):
    container.git("tag", "v1")
    container.git("push", "--quiet", "origin", "v1")
    after = container.again()
    after.restore()
    assert after.git("describe", "--tags") == "v1"


def test_an_empty_remote(tmp_path):
    one = Container(tmp_path, Remote.make(tmp_path / "remote.git"))
    one.restore()
    assert one.git("symbolic-ref", "HEAD") == "refs/heads/main"
    commit = one.commit("a.txt")
    assert one.save().saved
    assert one.remote.refs() == {"refs/heads/main": commit}


def test_work_in_a_repository_without_commits(tmp_path):
    one = Container(tmp_path, Remote.make(tmp_path / "remote.git"))
    one.restore()
    one.write("a.txt")
    one.write("b.txt")
    one.git("add", "b.txt")
    same(one, saved_and_restored(one))


def test_a_workspace_with_something_in_it_is_left_alone(container):
    container.write("a.txt", "mine\n")
    before = container.everything()
    assert "not empty" in container.restore().message
    assert container.everything() == before


def test_a_restore_that_was_killed_begins_afresh(container):
    container.write("a.txt")
    container.save()
    after = container.again()
    after.restore()
    (after.state / "restoring").touch()
    (after.workspace / "a.txt").unlink()
    after.restore()
    assert after.files() == container.files()


def test_without_a_remote_it_says_why(container):
    container.remote.path.rename(container.root / "away.git")
    after = container.again()
    with pytest.raises(SaveFailed):
        after.restore()


def test_the_workspace_is_an_ordinary_clone(container):
    after = container.again()
    after.restore()
    assert after.git("fsck", "--full") == ""
    commit = after.commit("a.txt")
    after.git("push", "--quiet", "origin", "main")
    assert after.remote.refs()["refs/heads/main"] == commit
    after.git("gc", "--quiet", "--prune=now")
    after.write("b.txt")
    assert after.save().saved


def test_nobody_elses_saved_work_is_fetched(container):
    other = "refs/heads/edit/acme-site-bob@acme.io/wip"
    container.git("push", "--quiet", "origin", f"main:{other}")
    after = container.again()
    after.restore()
    assert "edit/" not in after.git("for-each-ref")


def test_modes_of_what_is_restored(container):
    container.write("a.txt")
    container.write("run.sh").chmod(0o755)
    container.save()
    after = container.again()
    after.restore()
    modes = {name: stat.S_IMODE((after.workspace / name).stat().st_mode) for name in ("a.txt", "run.sh")}
    assert modes == {"a.txt": 0o644, "run.sh": 0o755}


def test_files_of_nested_repositories_and_submodules_come_back_as_files(container):
    inner = container.again("inner")
    inner.clone()
    container.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.workspace), "sub")
    container.git("commit", "--quiet", "-m", "submodule")
    container.write("nested/file.txt", "inside\n")
    git(container.workspace / "nested", "init", "--quiet")
    after = saved_and_restored(container)
    assert (after.workspace / "sub/README.md").read_text() == "hello\n"
    assert (after.workspace / "nested/file.txt").read_text() == "inside\n"
    assert after.git("ls-files", "--stage", "sub").startswith("160000")


# Any tree

NAMES = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"c", b"README.md", b"x.txt", b"x.sh", b"src", b"-", b" ", b"\xff", b"\n", b"~", b"a b"]
    ),
    st.binary(min_size=1, max_size=8),
).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..") and not name.lower().startswith(b".git")
)
FILES = st.tuples(
    st.sampled_from(["100644", "100755"]), st.sampled_from([b"", b"x\n", b"a\r\nb\r\n"]) | st.binary(max_size=50)
)
LINKS = st.tuples(st.just("120000"), st.binary(min_size=1, max_size=20).filter(lambda target: 0 not in target))
TREES = st.recursive(
    st.dictionaries(NAMES, FILES | LINKS, max_size=4),
    lambda inner: st.dictionaries(NAMES, FILES | LINKS | inner, max_size=4),
    max_leaves=8,
)
ATTRIBUTES = st.sampled_from([None, b"* text=auto eol=crlf\n", b"* text\n*.txt eol=lf\nx.sh binary ident\n"])


def put(top: bytes, tree: dict) -> None:
    """Write a tree below a directory."""
    for name, what in tree.items():
        path = top + b"/" + name
        if isinstance(what, dict):
            Path(os.fsdecode(path)).mkdir()
            put(path, what)
        elif what[0] == "120000":
            Path(os.fsdecode(path)).symlink_to(os.fsdecode(what[1]))
        else:
            Path(os.fsdecode(path)).write_bytes(what[1])
            Path(os.fsdecode(path)).chmod(int(what[0], 8) & 0o777)


def clear(container: Container) -> None:
    """Remove everything but the repository."""
    for each in container.workspace.iterdir():
        if each.name != ".git":
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()


@pytest.mark.timeout(60 + 5 * EXAMPLES)
@given(committed=TREES, uncommitted=TREES, attributes=ATTRIBUTES, staged=st.integers(0, 3))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_tree_comes_back_byte_for_byte(original, committed, uncommitted, attributes, staged):
    with tempfile.TemporaryDirectory() as folder:
        container = copy_container(original, Path(folder) / "c")
        top = os.fsencode(container.workspace)
        clear(container)
        put(top, committed)
        container.git("add", "--all")
        container.git("commit", "--quiet", "--allow-empty", "-m", "committed")
        clear(container)
        put(top, uncommitted)
        if attributes is not None:
            container.write(".gitattributes", attributes)
        names = sorted(uncommitted)[:staged]
        if names:
            container.git("add", "--", *(f":(literal){os.fsdecode(name)}" for name in names))
        same(container, saved_and_restored(container))
