"""What the remote does not take: never forced, never silent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import controller.agent
from controller.agent.protocol import SaveReason, SaveState
from tests.agent.world import Container, git

REFUSE_MAIN = (
    'while read old new ref; do case $ref in refs/heads/main) echo "main is protected" >&2; exit 1;; esac; done'
)
REFUSE_EDIT = 'while read old new ref; do case $ref in refs/heads/edit/*) echo "not here" >&2; exit 1;; esac; done'
REFUSE_ALL = 'echo "closed for today" >&2; exit 1'
UPDATE_MAIN = 'case $1 in refs/heads/main) echo "main is protected" >&2; exit 1;; esac'
UPDATE_EDIT = "case $1 in refs/heads/edit/*) exit 1;; esac"


def no_commit_lost(container: Container, before: dict[str, str]) -> None:
    """Every branch of the remote still contains what it had."""
    for ref, sha in before.items():
        assert container.remote.has(sha, ref), ref
    assert container.remote.fsck() == ""


def diverged(container: Container) -> tuple[str, str]:
    """Let somebody else push to main while the workspace has another commit on it; return both."""
    other = container.again("other")
    other.clone()
    theirs = other.commit("theirs.txt")
    other.git("push", "--quiet", "origin", "main")
    return container.commit("ours.txt"), theirs


def test_not_fast_forward_goes_to_a_rescue_ref(container):
    ours, theirs = diverged(container)
    receipt = container.save()
    assert receipt.saved, receipt
    assert receipt.reason is SaveReason.RESCUED
    assert container.remote.refs()["refs/heads/main"] == theirs
    assert container.rescues == {receipt.rescue_ref: ours}


def test_a_second_save_makes_no_second_rescue_ref(container):
    diverged(container)
    first = container.save()
    container.write("more.txt")
    second = container.save()
    assert second.saved
    assert list(container.rescues) == [first.rescue_ref] == [second.rescue_ref]


@pytest.mark.parametrize(("hook", "script"), [("pre-receive", REFUSE_MAIN), ("update", UPDATE_MAIN)])
def test_a_protected_branch_goes_to_a_rescue_ref(container, hook, script):
    before = container.remote.refs()
    container.remote.hook(hook, script)
    ours = container.commit("a.txt")
    container.write("b.txt")
    receipt = container.save()
    assert receipt.saved, receipt
    assert container.rescues == {receipt.rescue_ref: ours}
    assert container.remote.tree(container.wip)[b"b.txt"][1] == b"content\n"
    assert "main is protected" in " ".join(receipt.notes)
    no_commit_lost(container, before)


@pytest.mark.parametrize(("hook", "script"), [("pre-receive", REFUSE_EDIT), ("update", UPDATE_EDIT)])
def test_a_refused_wip_branch_goes_to_a_rescue_ref(container, hook, script):
    container.remote.hook(hook, script)
    container.write("a.txt")
    receipt = container.save()
    assert receipt.saved, receipt
    assert receipt.branch == receipt.rescue_ref.removeprefix("refs/heads/")
    assert container.remote.tree(receipt.rescue_ref)[b"a.txt"][1] == b"content\n"
    assert container.wip not in container.remote.refs()


def test_a_remote_that_refuses_everything_is_a_failure_with_its_words(container):
    first = container.save()
    container.remote.hook("pre-receive", REFUSE_ALL)
    container.write("a.txt")
    before = container.remote.refs()
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.PUSH_REFUSED)
    assert "closed for today" in receipt.message
    assert container.remote.refs() == before
    assert container.save().remote_commit == ""
    assert first.saved


def test_after_the_refusal_ends_everything_is_saved(container):
    container.remote.hook("pre-receive", REFUSE_ALL)
    container.write("a.txt")
    commit = container.commit("b.txt")
    assert not container.save().saved
    (container.remote.path / "hooks/pre-receive").unlink()
    receipt = container.save()
    assert receipt.saved
    assert container.remote.refs()["refs/heads/main"] == commit
    assert b"a.txt" in container.remote.tree(container.wip)


def test_a_branch_that_was_set_back_at_the_remote_is_brought_forward_again(container):
    container.commit("a.txt")
    container.save()
    git(container.remote.path, "update-ref", "refs/heads/main", "HEAD^")
    container.write("c.txt")
    ours = container.git("rev-parse", "HEAD")
    receipt = container.save()
    assert receipt.saved
    assert container.remote.refs()["refs/heads/main"] == ours


def test_a_wip_branch_that_somebody_deleted_comes_back(container):
    container.write("a.txt")
    container.save()
    git(container.remote.path, "update-ref", "-d", container.wip)
    receipt = container.save()
    assert receipt.saved
    assert b"a.txt" in container.remote.tree(container.wip)


def test_a_deleted_branch_whose_commits_we_have_is_not_lost(container):
    container.git("switch", "--quiet", "--create", "feature")
    commit = container.commit("f.txt")
    container.git("push", "--quiet", "origin", "feature")
    container.git("switch", "--quiet", "main")
    container.write("a.txt")
    container.save()
    git(container.remote.path, "update-ref", "-d", "refs/heads/feature")
    assert container.save().saved
    assert container.remote.has(commit, container.wip)


def test_two_containers_of_one_user_lose_nothing_of_each_other(container):
    one, two = container, container.again("two")
    two.clone()
    one.write("one.txt")
    first = one.save()
    two.write("two.txt")
    second = two.save()
    one.write("one.txt", "again\n")
    third = one.save()
    assert first.saved
    assert second.saved
    assert third.saved
    for receipt in (first, second, third):
        assert one.remote.has(receipt.commit, one.wip)


def test_a_push_that_comes_between_is_built_upon(container):
    """Another agent pushes to the same wip branch after ours has looked: a hook does it in the middle of our push."""
    container.write("a.txt")
    first = container.save()
    other = container.again("other")
    other.clone()
    other.write("theirs.txt")
    marker = container.root / "once"
    marker.touch()
    (container.root / "theirs.sh").write_text("")
    container.remote.hook(
        "pre-receive",
        f"""while read old new ref; do case $ref in refs/heads/edit/*) test -e {marker} || continue
rm {marker}
unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
tree=$(git rev-parse {first.commit}^{{tree}})
theirs=$(echo theirs | git -c user.name=x -c user.email=x commit-tree -p {first.commit} $tree)
git update-ref $ref $theirs {first.commit}
echo $theirs > {marker}.commit;; esac; done""",
    )
    container.write("a.txt", "changed\n")
    receipt = container.save()
    assert receipt.saved, receipt
    theirs = (container.root / "once.commit").read_text().strip()
    assert container.remote.has(theirs, container.wip)
    assert container.remote.has(receipt.commit, container.wip)


def test_another_users_wip_branch_is_never_written(container):
    other = "refs/heads/edit/acme-site-bob@acme.io/wip"
    git(container.remote.path, "update-ref", other, "main")
    before = container.remote.refs()[other]
    container.git("fetch", "--quiet")
    container.git("switch", "--quiet", "--create", "edit/acme-site-bob@acme.io/wip", f"origin/{other[11:]}")
    commit = container.commit("attack.txt")
    container.git("switch", "--quiet", "main")
    receipt = container.save()
    assert receipt.saved
    assert container.remote.refs()[other] == before
    assert container.remote.has(commit, container.wip)


# The remote itself


def test_a_remote_that_is_gone(container):
    container.write("a.txt")
    container.remote.path.rename(container.root / "away.git")
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.REMOTE_MISSING)


def test_a_remote_that_nobody_listens_at(container):
    receipt = container.save(EDIT_REMOTE="http://127.0.0.1:9/repo.git")
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.REMOTE_UNREACHABLE)


def test_a_remote_that_hangs_ends_with_the_deadline(container):
    container.write("a.txt")
    container.remote.hook("pre-receive", f"echo $$ > {container.root}/pid; read line < {container.root}/never")
    os.mkfifo(container.root / "never")
    receipt = container.save(seconds=3)
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.DEADLINE)
    assert receipt.milliseconds < 5000


def test_a_failure_names_the_last_commit_that_the_remote_confirmed(container):
    container.write("a.txt")
    good = container.save()
    container.write("a.txt", "more\n")
    container.remote.path.rename(container.root / "away.git")
    receipt = container.save()
    assert not receipt.saved
    assert (receipt.remote_commit, receipt.branch) == (good.commit, good.branch)


def test_never_by_force():
    """No command of the agent has a way to overwrite what the remote has."""
    for path in Path(controller.agent.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert "--force-with-lease" not in text
        for line in text.splitlines():
            assert "push" not in line or ("--force" not in line and '"+' not in line), line
