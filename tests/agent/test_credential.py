"""The credential: short-lived, known to one process tree at a time, and nowhere else."""

from __future__ import annotations

import os
import random
import subprocess

import pytest

from controller.agent import git as agent_git
from controller.agent.protocol import SaveReason, SaveState
from controller.agent.settings import from_environment
from controller.errors import ConfigError
from tests.agent.web import CANARY, Watcher, Web, places_with, use


def test_a_save_over_http_with_a_password(container, web):
    commit = container.commit("a.txt")
    container.write("b.txt")
    receipt = container.save()
    assert receipt.saved, receipt
    assert container.remote.refs()["refs/heads/main"] == commit
    assert container.remote.tree(container.wip)[b"b.txt"][1] == b"content\n"


def test_a_large_push_over_http(container, web):
    container.write("big.bin", random.Random(1).randbytes(3_000_000))
    assert container.save().saved
    assert len(container.remote.tree(container.wip)[b"big.bin"][1]) == 3_000_000


def test_the_canary_is_in_no_file_argument_environment_or_receipt(container, web, tmp_path, capfd):
    command = tmp_path / "elsewhere" / "credential"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nread protocol; read host; read path; printf 'password=%s\\n' {CANARY}\n")
    command.chmod(0o755)
    use(container, web, str(command))
    for number in range(3):
        container.commit(f"{number}.txt", message=f"commit {number}")
    container.write("b.txt")
    with Watcher(CANARY) as watcher:
        receipt = container.save()
        container.git("reset", "--hard", "--quiet")
        again = container.save()
    assert receipt.saved, receipt
    assert again.saved
    assert watcher.looks > 3
    assert watcher.seen == set()
    assert places_with(CANARY, container.root) == []
    assert CANARY not in str(receipt.to_json())
    out = capfd.readouterr()
    assert CANARY not in out.out + out.err


def test_gits_credential_form_with_a_user_name(container, web):
    web.user = "robot"
    use(container, web, f"printf 'username=robot\\npassword={CANARY}\\n'")
    container.write("a.txt")
    assert container.save().saved


def test_the_command_is_told_what_the_credential_is_for(container, web):
    told = container.root / "told"
    use(container, web, f"cat > {told}; echo {CANARY}")
    container.save()
    assert told.read_text() == f"protocol=http\nhost=127.0.0.1:{web.port}\npath=remote.git\n\n"


def test_an_expired_credential_is_asked_for_again_once(container, web):
    marker = container.root / "first"
    marker.touch()
    use(container, web, f"if test -e {marker}; then rm {marker}; echo expired; else echo {CANARY}; fi")
    container.write("a.txt")
    assert container.save().saved


def test_a_refused_credential_is_a_recorded_failure(container, web):
    use(container, web, "echo wrong")
    container.write("a.txt")
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.CREDENTIAL_REFUSED)
    assert "wrong" not in receipt.message


@pytest.mark.parametrize(
    ("command", "why"),
    [("exit 3", "ended with 3"), ("true", "printed 0 lines"), ("echo a; echo b", "printed 2 lines")],
)
def test_a_command_that_gives_nothing_is_a_recorded_failure(container, web, command, why):
    use(container, web, command)
    receipt = container.save()
    assert (receipt.state, receipt.reason) == (SaveState.FAILED, SaveReason.CREDENTIAL_MISSING)
    assert why in receipt.message


def test_a_command_that_hangs_ends_with_the_deadline(container, web):
    use(container, web, "read line < /dev/zero; cat /dev/zero > /dev/null")
    receipt = container.save(seconds=2)
    assert receipt.reason in (SaveReason.CREDENTIAL_MISSING, SaveReason.DEADLINE)
    assert receipt.milliseconds < 4000


def test_a_redirect_is_not_followed(container, web):
    decoy = Web(container.root, "nothing")
    try:
        web.redirect = decoy.address
        container.write("a.txt")
        receipt = container.save()
        assert receipt.state is SaveState.FAILED
        assert decoy.requests == []
    finally:
        decoy.close()


def test_the_askpass_helper_answers_for_one_host_only(container, web):
    container.save()
    descriptor = agent_git._memory_file(agent_git.Credential("user", CANARY))
    answers = {}
    for prompt in (
        "Username for 'http://127.0.0.1:80': ",
        "Password for 'http://user@127.0.0.1:80': ",
        "Password for 'http://user@evil.example': ",
        "Password for 'https://user@127.0.0.1:80': ",
        "Username for 'http://127.0.0.1:80.evil.example': ",
        "Enter passphrase for key: ",
    ):
        done = subprocess.run(
            [str(container.state / "askpass"), prompt],
            env={"EDIT_ASKPASS_FD": str(descriptor), "EDIT_ASKPASS_FOR": "http://127.0.0.1:80"},
            pass_fds=[descriptor],
            capture_output=True,
            text=True,
            check=False,
        )
        answers[prompt] = done.stdout.strip()
    os.close(descriptor)
    assert list(answers.values()) == ["user", CANARY, "", "", "", ""]


@pytest.mark.parametrize(
    "remote",
    ["https://user:secret@git.example.com/x.git", "ext::sh -c x", "fd::3", "relative/path", "ftp://x/y", "ext::/a/b"],
)
def test_addresses_that_are_refused(container, remote):
    with pytest.raises(ConfigError):
        container.settings(EDIT_REMOTE=remote)


def test_a_credential_never_crosses_the_network_in_the_clear(container):
    with pytest.raises(ConfigError, match="http://"):
        container.settings(EDIT_REMOTE="http://git.example.com/x.git", EDIT_CREDENTIAL_COMMAND="echo x")


def test_the_credential_does_not_show_in_a_representation():
    assert CANARY not in repr(agent_git.Credential("user", CANARY))


@pytest.mark.parametrize(
    ("said", "fit"),
    [
        (f"fatal: bad {CANARY} here", "fatal: bad *** here"),
        ("fatal: https://user:pw@host/x failed", "fatal: https://***@host/x failed"),
        ("line\nremote: \x1b[31mred\x1b[0m\nprogress 1%\rprogress 2%", "line; remote: red; progress 2%"),
        ("forged\u2028line", "forged?line"),
    ],
    ids=["credential", "URL with a password", "control characters", "line separator"],
)
def test_what_a_program_says_is_made_fit(said, fit):
    assert agent_git.redact(said, CANARY) == fit


def test_hidden_variables(container):
    settings = from_environment(container.env(EDIT_HIDE="GIT_TOKEN, OTHER"))
    assert {"GIT_TOKEN", "OTHER", "EDIT_CREDENTIAL_COMMAND"} <= set(settings.hidden)
