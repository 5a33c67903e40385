"""A workspace that wants the credential, the push or the agent's machine. It gets none of them.

Each case changes the workspace as whatever runs in it could. Then a save must push the same work to the same remote as
without it: no program that the workspace names has run, nobody else was spoken to, the password is nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controller.agent import capture
from controller.agent.failures import SaveFailed
from controller.agent.files import Tree
from controller.agent.protocol import SaveState
from tests.agent.web import CANARY, Web, places_with
from tests.agent.world import Container, Remote, copy_container, git, make_container

HOOKS = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
]


@dataclass
class Attack:
    """What an attack may use: the container, a program that tells of itself when it runs, a server, a secret."""

    container: Container
    program: str
    decoy: Web
    secret: Path

    @property
    def dot_git(self) -> Path:
        return self.container.workspace / ".git"

    def config(self, *pairs: tuple[str, str]) -> None:
        """Set the workspace's configuration."""
        for key, value in pairs:
            self.container.git("config", "--add", key, value)


Case = Callable[[Attack], object]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Make a function one of the cases."""
    CASES[function.__name__] = function
    return function


@case
def hooks(a: Attack) -> None:
    for name in HOOKS:
        path = a.dot_git / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{a.program}\n")
        path.chmod(0o755)


@case
def hooks_path(a: Attack) -> None:
    for name in HOOKS:
        path = a.container.write(f"hooks/{name}", f"#!/bin/sh\n{a.program}\n")
        path.chmod(0o755)
    a.config(("core.hooksPath", str(a.container.workspace / "hooks")))


@case
def fsmonitor(a: Attack) -> None:
    a.config(("core.fsmonitor", a.program), ("core.fsmonitorHookVersion", "2"), ("core.untrackedCache", "true"))


@case
def ssh_command(a: Attack) -> None:
    a.config(("core.sshCommand", a.program), ("ssh.variant", "simple"))


@case
def filter_clean_and_smudge(a: Attack) -> None:
    a.config(("filter.x.clean", a.program), ("filter.x.smudge", a.program), ("filter.x.required", "true"))
    a.container.write(".gitattributes", "* filter=x\n")


@case
def filter_process(a: Attack) -> None:
    a.config(("filter.x.process", a.program), ("filter.x.required", "true"))
    (a.dot_git / "info").mkdir(exist_ok=True)
    (a.dot_git / "info/attributes").write_text("* filter=x\n")


@case
def instead_of(a: Attack) -> None:
    a.config((f"url.{a.decoy.address}/.insteadOf", "http://127.0.0.1"))
    a.config((f"url.{a.decoy.address}/.insteadOf", str(a.container.environment["EDIT_REMOTE"])))


@case
def push_instead_of(a: Attack) -> None:
    a.config((f"url.{a.decoy.address}/.pushInsteadOf", str(a.container.environment["EDIT_REMOTE"])))
    a.config((f"url.{a.decoy.address}/.pushInsteadOf", "http://"))


@case
def push_url(a: Attack) -> None:
    a.config(("remote.origin.pushurl", f"{a.decoy.address}/x.git"), ("remote.pushDefault", "origin"))
    a.config(("remote.origin.push", "+refs/heads/*:refs/heads/*"), ("remote.origin.mirror", "true"))


@case
def remote_named_as_the_address(a: Attack) -> None:
    name = str(a.container.environment["EDIT_REMOTE"])
    with (a.dot_git / "config").open("a") as file:
        file.write(f'[remote "{name}"]\n\turl = {a.decoy.address}/x.git\n\treceivepack = {a.program}\n')


@case
def ext_protocol(a: Attack) -> None:
    a.config(("protocol.ext.allow", "always"), ("remote.origin.url", f"ext::{a.program}"))
    a.config(("remote.origin.pushurl", f"ext::{a.program}"))


@case
def credential_helper(a: Attack) -> None:
    a.config(("credential.helper", f"!{a.program}"), ("credential.helper", "store"), ("core.askPass", a.program))
    a.config((f"credential.{a.container.environment['EDIT_REMOTE']}.helper", f"!{a.program}"))


@case
def alternates(a: Attack) -> None:
    (a.dot_git / "objects/info").mkdir(exist_ok=True)
    (a.dot_git / "objects/info/alternates").write_text(f"{a.secret.parent}\n/proc/self/fd\n../../../../..\n")


@case
def include(a: Attack) -> None:
    evil = a.container.write("evil.config", f"[core]\n\tfsmonitor = {a.program}\n\tsshCommand = {a.program}\n")
    a.config(("include.path", str(evil)), ("includeIf.gitdir:/.path", str(evil)), ("include.path", str(a.secret)))


@case
def signing(a: Attack) -> None:
    a.config(("gpg.program", a.program), ("commit.gpgSign", "true"), ("push.gpgSign", "true"), ("gpg.format", "ssh"))
    a.config(("gpg.ssh.program", a.program), ("gpg.ssh.defaultKeyCommand", a.program), ("user.signingKey", "x"))


@case
def external_diff_and_textconv(a: Attack) -> None:
    a.config(("diff.external", a.program), ("diff.x.textconv", a.program), ("diff.x.command", a.program))
    a.config(("merge.x.driver", a.program), ("merge.default", "x"))
    a.container.write(".gitattributes", "* diff=x merge=x\n")


@case
def worktree_elsewhere(a: Attack) -> None:
    a.config(("core.worktree", str(a.secret.parent)))


@case
def bare(a: Attack) -> None:
    a.config(("core.bare", "true"), ("core.bare", "nonsense"))


@case
def git_proxy_and_http_proxy(a: Attack) -> None:
    a.config(("core.gitProxy", a.program), ("http.proxy", a.decoy.address), ("remote.origin.proxy", a.decoy.address))
    a.config(("http.extraHeader", "X-Evil: yes"), ("http.cookieFile", str(a.secret)), ("http.saveCookies", "true"))


@case
def pack_commands(a: Attack) -> None:
    a.config(("remote.origin.uploadpack", a.program), ("remote.origin.receivepack", a.program))
    a.config(("uploadpack.packObjectsHook", a.program), ("core.alternateRefsCommand", a.program))
    a.config(("receive.procReceiveRefs", "refs"), ("transfer.hideRefs", "refs/heads/nothing"))


@case
def aliases_pager_and_editor(a: Attack) -> None:
    for name in ("upload-pack", "pack-objects", "push", "ls-remote", "fetch", "ls-files"):
        a.config((f"alias.{name}", f"!{a.program}"))
    a.config(("core.pager", a.program), ("core.editor", a.program), ("sequence.editor", a.program))
    a.config(("pager.upload-pack", a.program), ("interactive.diffFilter", a.program))


@case
def a_partial_clone_that_fetches(a: Attack) -> None:
    blob = a.container.git("rev-parse", "HEAD:README.md")
    (a.dot_git / "objects" / blob[:2] / blob[2:]).unlink(missing_ok=True)
    a.config(("core.repositoryFormatVersion", "1"), ("extensions.partialClone", "origin"))
    a.config(("remote.origin.promisor", "true"), ("remote.origin.url", f"ext::{a.program}"))
    a.config(("remote.origin.uploadpack", a.program), ("protocol.ext.allow", "always"))


@case
def submodule_commands(a: Attack) -> None:
    a.container.write(
        ".gitmodules", f'[submodule "x"]\n\tpath = x\n\turl = ext::{a.program}\n\tupdate = !{a.program}\n'
    )
    a.config(("submodule.x.update", f"!{a.program}"), ("submodule.recurse", "true"), ("push.recurseSubmodules", "only"))


@case
def a_nested_repository_with_commands(a: Attack) -> None:
    a.container.write("nested/file", "x\n")
    git(a.container.workspace / "nested", "init", "--quiet")
    for key in ("core.fsmonitor", "core.sshCommand", "filter.x.clean", "core.pager"):
        git(a.container.workspace / "nested", "config", key, a.program)
    a.container.write("nested/.gitattributes", "* filter=x\n")


@case
def dot_git_is_a_symlink(a: Attack) -> None:
    a.dot_git.rename(a.container.root / "moved")
    a.dot_git.symlink_to(a.container.root / "moved")
    git(a.container.root / "moved", "config", "core.fsmonitor", a.program)


@case
def dot_git_is_a_file_that_points_elsewhere(a: Attack) -> None:
    a.dot_git.rename(a.container.root / "moved")
    a.dot_git.write_text(f"gitdir: {a.container.root / 'moved'}\n")
    git(a.container.root / "moved", "config", "core.worktree", str(a.secret.parent))


@case
def environment_variables(a: Attack) -> None:
    names = ("SSH", "SSH_COMMAND", "ASKPASS", "PROXY_COMMAND", "EXTERNAL_DIFF", "EDITOR", "PAGER", "SEQUENCE_EDITOR")
    os.environ.update({f"GIT_{name}": a.program for name in names})
    os.environ.update(
        GIT_DIR=str(a.secret.parent),
        GIT_WORK_TREE=str(a.secret.parent),
        GIT_INDEX_FILE=str(a.secret),
        GIT_OBJECT_DIRECTORY=str(a.secret.parent),
        GIT_ALTERNATE_OBJECT_DIRECTORIES=str(a.secret.parent),
        GIT_TEMPLATE_DIR=str(a.secret.parent),
        GIT_TRACE=str(a.secret.parent / "trace"),
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0="core.fsmonitor",
        GIT_CONFIG_VALUE_0=a.program,
        GIT_CONFIG_PARAMETERS=f"'core.fsmonitor'='{a.program}'",
        GIT_ALLOW_PROTOCOL="ext:file:http",
        SSH_ASKPASS=a.program,
        http_proxy=a.decoy.address,
        ALL_PROXY=a.decoy.address,
        BASH_ENV=a.program,
        PYTHONPATH=str(a.container.workspace),
        PYTHONSTARTUP=str(a.container.write("startup.py", "import os; os.system('touch ran')\n")),
    )
    a.container.write("sitecustomize.py", f"import os; os.system({a.program!r})\n")
    a.container.write("json.py", f"import os; os.system({a.program!r})\n")


@case
def configuration_of_the_user_and_the_system(a: Attack) -> None:
    text = f"[core]\n\tfsmonitor = {a.program}\n\thooksPath = {a.container.workspace}\n[credential]\n\thelper = store\n"
    text += f'[url "{a.decoy.address}/"]\n\tinsteadOf = http://127.0.0.1\n[http]\n\tproxy = {a.decoy.address}\n'
    home = Path(os.environ["HOME"])
    (home / ".gitconfig").write_text(text)
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/config").write_text(text)
    (home / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")


@case
def pipes_that_never_end(a: Attack) -> None:
    (a.dot_git / "info").mkdir(exist_ok=True)
    for path in (a.dot_git / "info/exclude", a.dot_git / "MERGE_HEAD", a.container.workspace / "pipe"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    (a.container.workspace / "folder").mkdir()
    os.mkfifo(a.container.workspace / "folder/.gitattributes")


@case
def rules_that_are_links_to_secrets(a: Attack) -> None:
    (a.dot_git / "info").mkdir(exist_ok=True)
    (a.dot_git / "info/exclude").unlink(missing_ok=True)
    for path in (a.dot_git / "info/exclude", a.container.workspace / "sub/.gitignore", a.dot_git / "MERGE_HEAD"):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(a.secret)
    a.config(("core.excludesFile", str(a.secret)), ("core.attributesFile", str(a.secret)))


@case
def an_index_that_is_a_link(a: Attack) -> None:
    (a.dot_git / "index").unlink()
    (a.dot_git / "index").symlink_to(a.secret)


@case
def an_index_of_nonsense(a: Attack) -> None:
    data = bytearray((a.dot_git / "index").read_bytes())
    generator = random.Random(7)
    for _ in range(20):
        data[generator.randrange(12, len(data))] = generator.randrange(256)
    (a.dot_git / "index").write_bytes(bytes(data) + generator.randbytes(100))


@case
def replaced_and_grafted_commits(a: Attack) -> None:
    head = a.container.git("rev-parse", "HEAD")
    tree = a.container.git("mktree", check=True)
    fake = a.container.git("commit-tree", tree, "-m", "fake")
    a.container.git("replace", "--force", head, fake)
    (a.dot_git / "info").mkdir(exist_ok=True)
    (a.dot_git / "info/grafts").write_text(f"{head} {fake}\n")


@case
def refs_that_lead_out(a: Attack) -> None:
    (a.dot_git / "refs/heads/link").symlink_to(a.secret)
    (a.dot_git / "refs/heads/folder").symlink_to(a.secret.parent)
    with (a.dot_git / "packed-refs").open("a") as file:
        file.write("f" * 40 + " refs/heads/../../../../evil\n")


@case
def tracing(a: Attack) -> None:
    target = str(a.container.workspace / "trace")
    a.config(("trace2.normalTarget", target), ("trace2.eventTarget", target), ("trace2.envVars", "EDIT_ASKPASS_FD"))


@case
def a_hostile_stash_log(a: Attack) -> None:
    (a.dot_git / "logs/refs").mkdir(parents=True, exist_ok=True)
    (a.dot_git / "logs/refs/stash").write_text("x" * 40 + " --upload-pack=evil me <x> 0 +0000\tmessage\n" * 50)


def arm(container: Container, place: Path, decoy: Web) -> Attack:
    """Prepare work worth saving, a program that leaves a mark when it runs, and a secret."""
    container.commit("committed.txt", "committed\n")
    container.write("uncommitted.txt", "uncommitted\n")
    loot = place / "loot"
    loot.mkdir()
    program = place / "evil"
    program.write_text(f"#!/bin/sh\nenv > {loot}/env.$$\ncat /proc/$PPID/environ > {loot}/parent.$$\nexit 1\n")
    program.chmod(0o755)
    secret = place / "secrets" / "secret"
    secret.parent.mkdir()
    secret.write_text("top-secret-of-the-agent\n")
    return Attack(container, str(program), decoy, secret)


@pytest.fixture
def attack(container: Container, web: Web, tmp_path: Path) -> Iterator[Attack]:
    """Return what an attack may use."""
    decoy = Web(tmp_path, "nothing")
    yield arm(container, tmp_path, decoy)
    decoy.close()


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_workspace_gets_nothing(attack, web, tmp_path, capfd, name):
    container = attack.container
    CASES[name](attack)
    attack.secret.parent.joinpath("trace").unlink(missing_ok=True)
    kept = dict(os.environ)
    receipt = container.save(seconds=40)
    os.environ.clear()
    os.environ.update(
        {k: v for k, v in kept.items() if not k.startswith(("GIT_", "PYTHON")) and "PROXY" not in k.upper()}
    )

    assert receipt.state in (SaveState.SAVED, SaveState.PARTIAL), receipt
    assert list((tmp_path / "loot").iterdir()) == [], "a program of the workspace has run"
    assert attack.decoy.requests == [], "somebody else was spoken to"
    assert not (attack.secret.parent / "trace").exists()
    tree = container.remote.tree(container.wip)
    assert tree[b"uncommitted.txt"][1] == b"uncommitted\n"
    assert tree[b"committed.txt"][1] == b"committed\n"
    assert all(b"top-secret" not in content for _, content in tree.values()), "a secret was pushed"
    assert places_with(CANARY, container.root, tmp_path / "loot") == []
    out = capfd.readouterr()
    assert CANARY not in out.out + out.err + str(receipt.to_json())
    assert container.remote.fsck() == ""


BITING = (
    "a_partial_clone_that_fetches",
    "configuration_of_the_user_and_the_system",
    "credential_helper",
    "dot_git_is_a_symlink",
    "ext_protocol",
    "filter_clean_and_smudge",
    "filter_process",
    "fsmonitor",
    "git_proxy_and_http_proxy",
    "hooks",
    "hooks_path",
    "include",
    "pack_commands",
    "push_instead_of",
    "signing",
)


def test_the_cases_have_teeth(original, tmp_path):
    """The commands of the original script, run in the workspace, do what the attacker wants: the cases are real."""
    decoy = Web(tmp_path, "nothing")
    harmless = []
    try:
        for name in BITING:
            container = copy_container(original, tmp_path / name / "c")
            container.environment["EDIT_REMOTE"] = "http://127.0.0.1:9/remote.git"
            attack = arm(container, tmp_path / name, decoy)
            CASES[name](attack)
            said = len(decoy.requests)
            url = f"http://x-access-token:{CANARY}@127.0.0.1:9/remote.git"
            for command in (("add", "-A"), ("commit", "-m", "x"), ("push", url, "HEAD"), ("push", "origin", "HEAD")):
                container.git(*command, check=False)
            if not list((tmp_path / name / "loot").iterdir()) and len(decoy.requests) == said:
                harmless.append(name)
    finally:
        decoy.close()
    assert harmless == []


def test_there_are_enough_cases():
    assert len(CASES) >= 20
    assert set(BITING) <= set(CASES)


def test_a_folder_that_is_exchanged_for_a_link_leads_nowhere(container, tmp_path):
    """What is checked and what is opened could be two things; the agent may be able to read more than the workload."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "file").write_text("top-secret\n")
    for number in range(200):
        container.write(f"folder/{number:03}/file", "harmless\n")
    real, away = container.workspace / "folder/100", container.workspace / "away"
    over = threading.Event()

    def exchange() -> None:
        while not over.is_set():
            real.rename(away)
            real.symlink_to(secrets)
            real.unlink()
            away.rename(real)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(5):
            receipt = container.save()
            assert receipt.state in (SaveState.SAVED, SaveState.PARTIAL), receipt
            tree = container.remote.tree(container.wip)
            assert all(b"top-secret" not in content for _, content in tree.values())
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_became_a_link_after_it_was_listed_leads_nowhere(container, tmp_path, monkeypatch, what):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "file").write_text("top-secret\n")
    container.write("folder/file", "harmless\n")
    container.write("other", "harmless\n")
    really = capture.list_files

    def list_then_exchange(*arguments: Any) -> capture.Listing:
        listing = really(*arguments)
        shutil.rmtree(container.workspace / "folder")
        if what == "folder":
            (container.workspace / "folder").symlink_to(secrets)
        else:
            (container.workspace / "folder").mkdir()
            (container.workspace / "folder/file").symlink_to(secrets / "file")
        return listing

    monkeypatch.setattr(capture, "list_files", list_then_exchange)
    container.save()
    tree = container.remote.tree(container.wip)
    assert all(b"top-secret" not in content for _, content in tree.values())
    assert b"other" in tree


def test_a_file_that_became_a_link_when_it_was_opened_is_not_read(container, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("top-secret\n")
    container.write("file", "harmless\n")
    container.write("other")
    really = Tree.open

    def exchange(tree: Tree, path: bytes) -> int:
        if path == b"file":
            (container.workspace / "file").unlink()
            (container.workspace / "file").symlink_to(tmp_path / "secret")
        return really(tree, path)

    monkeypatch.setattr(Tree, "open", exchange)
    container.save()
    assert b"file" not in container.remote.tree(container.wip)
    assert b"other" in container.remote.tree(container.wip)


def test_the_agents_directory_must_be_its_own(container, tmp_path):
    container.state.symlink_to(tmp_path)
    receipt = container.save()
    assert receipt.state is SaveState.FAILED
    assert "not the agent's own directory" in receipt.message


def test_a_wip_commit_that_somebody_forged_does_no_harm(tmp_path):
    container = make_container(tmp_path / "one")
    head = container.git("rev-parse", "HEAD")
    tree = container.git("rev-parse", "HEAD^{tree}")
    about = {"format": 1, "state": "x", "head": head, "index": "", "branches": {}, "stash": [], "operation": ""}
    odd = {"refs/heads/--x": head, "refs/heads/a b": head, "refs/heads/../x": head}
    texts = (
        "{}",
        "[" * 50_000,
        json.dumps(about | {"branch": "refs/heads/../../x", "branches": odd}),
        json.dumps(about | {"branch": "--upload-pack=x"}),
        json.dumps(about | {"branch": "refs/heads/main", "stash": [["--all", "x"]]}),
        json.dumps(about | {"branch": "refs/heads/main", "branches": odd, "head": "f" * 40}),
    )
    for number, text in enumerate(texts):
        forged = container.git("commit-tree", tree, "-p", head, "-m", f"x\n\nedit-agent: {text}")
        container.git("push", "--quiet", "--force", "origin", f"{forged}:{container.wip}")
        after = container.again(f"after{number}")
        with contextlib.suppress(SaveFailed):
            after.restore()
        assert not any(path.name == "x" for path in after.root.rglob("x"))


def test_a_remote_of_another_kind_is_not_ours(tmp_path):
    remote = Remote.make(tmp_path / "remote.git")
    container = Container(tmp_path, remote, {"CLIENT_ID": "--upload-pack=x", "PROJECT_ID": "../../x", "USER_ID": "a b"})
    container.environment["CONTAINER_ID"] = "--upload-pack=x-../../x-a b"
    settings = container.settings(EDIT_REMOTE="https://git.example.com/{client}/{project}.git")
    assert settings.remote == "https://git.example.com/--upload-pack%3Dx/%2E%2E%2F.%2E%2Fx.git"
    git(remote.path, "check-ref-format", settings.refs.wip)
