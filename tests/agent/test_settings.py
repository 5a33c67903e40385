"""Names and settings: what the agent makes of an identity and of its environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.agent.names import Refs, escape_part, escaped_id, render
from controller.agent.settings import SaveTo, from_environment
from controller.core.identity import ENV_GENERATION, ENV_TOKEN_SHA256, ContainerIdentity, identity_or_none
from controller.errors import ConfigError

ROOT = Path(__file__).parents[2]
NAMES = {"CLIENT_ID": "acme", "PROJECT_ID": "site", "USER_ID": "ann@acme.io", "CONTAINER_ID": "acme-site-ann@acme.io"}
PARTS = st.text(min_size=1, max_size=12).map(str).filter(lambda s: identity_or_none(s, "p", "u") is not None)


def settings(**environment: str):
    return from_environment({**NAMES, **environment})


# Names


def test_an_ordinary_id_names_its_refs_as_it_is():
    refs = Refs(escaped_id(ContainerIdentity("ameliastamps", "website", "john@email.com")))
    assert refs.wip == "refs/heads/edit/ameliastamps-website-john@email.com/wip"
    assert refs.rescue == "refs/heads/rescue/ameliastamps-website-john@email.com/"


def test_ids_that_read_the_same_get_different_refs():
    assert escaped_id(ContainerIdentity("a-b", "c", "d")) != escaped_id(ContainerIdentity("a", "b-c", "d"))


@pytest.mark.parametrize(
    ("part", "escaped"),
    [
        ("john@email.com", "john@email.com"),
        ("a-b", "a%2Db"),
        ("a b", "a%20b"),
        ("grün", "gr%C3%BCn"),
        ("..", "%2E%2E"),
        (".git", "%2Egit"),
        ("x.lock", "x%2Elock"),
        ("x.", "x%2E"),
        ("a..b", "a.%2Eb"),
        ("@{x}", "@%7Bx%7D"),
        ("a/b\\c", "a%2Fb%5Cc"),
        ("100%", "100%25"),
    ],
)
def test_escaping(part, escaped):
    assert escape_part(part) == escaped


@given(PARTS, PARTS, PARTS)
def test_every_identity_names_a_ref_that_git_allows(client, project, user):
    identity = identity_or_none(client, project, user)
    if identity is None:
        return
    text = escaped_id(identity)
    assert re.fullmatch(r"[A-Za-z0-9_@+.%=-]+", text)
    assert ".." not in text
    assert not text.startswith((".", "-"))
    assert not text.endswith((".lock", "."))
    assert len(text) <= 180


@given(st.lists(PARTS, min_size=6, max_size=6))
def test_no_two_identities_share_a_ref(parts):
    one, two = identity_or_none(*parts[:3]), identity_or_none(*parts[3:])
    if one and two and one != two:
        assert escaped_id(one) != escaped_id(two)


def test_git_agrees(tmp_path):
    for part in ("..", "x.lock", "@", "a b", "-x", "~^:?*[", "\\", "é" * 60):
        ref = Refs(escaped_id(ContainerIdentity(part, "site", part))).wip
        subprocess.run(["git", "check-ref-format", ref], check=True)


def test_templates():
    identity = ContainerIdentity("acme-corp", "site", "a/b")
    assert (
        render("https://git.example.com/{client}/{project}.git", identity)
        == "https://git.example.com/acme-corp/site.git"
    )
    assert render("{user} {id}", identity) == "a%2Fb acme%2Dcorp-site-a%2Fb"
    with pytest.raises(ConfigError, match="branch"):
        render("{branch}", identity)


@pytest.mark.parametrize("ref", ["refs/heads/edit/x/wip", "refs/heads/rescue/x/1", "refs/heads/edit"])
def test_reserved_branches(ref):
    assert Refs.is_reserved(ref)
    assert not Refs.is_reserved("refs/heads/editor")


# Settings


def test_defaults():
    plain = settings()
    assert (plain.stop_timeout, plain.save_budget) == (120, pytest.approx(84))
    assert (plain.save_to, plain.push_branches, plain.has_channel) == (SaveTo.WIP, True, False)
    assert plain.workspace == plain.workdir == Path("/workspace")


def test_the_workload_starts_in_its_workspace_or_where_the_image_says():
    assert settings(WORKSPACE_PATH="/workspace/acme/site").workdir == Path("/workspace/acme/site")
    assert settings(WORKSPACE_PATH="/workspace/acme/site", EDIT_WORKDIR="/app").workdir == Path("/app")
    assert settings(WORKSPACE_PATH="/workspace/acme/site", EDIT_WORKDIR="").workdir == Path("/workspace/acme/site")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86400), (" 5 ", 5)]
)
def test_durations(text, seconds):
    assert settings(EDIT_STOP_TIMEOUT=text).stop_timeout == seconds


@pytest.mark.parametrize(("text", "size"), [("1000", 1000), ("1k", 1024), ("2M", 2 << 20), ("1GiB", 1 << 30)])
def test_sizes(text, size):
    assert settings(EDIT_RESERVE=text).reserve == size


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDIT_STOP_TIMEOUT", "soon"),
        ("EDIT_STOP_TIMEOUT", "-5"),
        ("EDIT_RESERVE", "much"),
        ("EDIT_SAVE_TO", "cloud"),
        ("EDIT_PUSH_BRANCHES", "maybe"),
        ("EDIT_AGENT_PORT", "0"),
        ("EDIT_AGENT_PORT", "70000"),
        ("EDIT_AGENT_PORT", "http"),
        ("WORKSPACE_PATH", "relative"),
        ("WORKSPACE_PATH", "/workspace/../etc"),
        ("EDIT_WORKDIR", "site"),
        ("EDIT_STATE_DIR", "/workspace/state"),
        ("EDIT_STATE_DIR", "/"),
        ("EDIT_AUTHOR", "nobody"),
        ("EDIT_REMOTE", "https://git.example.com/{name}.git"),
        ("EDIT_WORKLOAD_USER", "no-such-user-here"),
        ("CONTAINER_ID", "another-site-ann"),
    ],
)
def test_what_is_wrong_is_named(name, value):
    with pytest.raises(ConfigError) as caught:
        settings(**{name: value})
    assert name in caught.value.lines()[0]
    assert len(caught.value.lines()) == 3


def test_a_template_needs_an_identity():
    with pytest.raises(ConfigError, match="whose it is"):
        from_environment({"EDIT_REMOTE": "https://git.example.com/{client}.git"})
    with pytest.raises(ConfigError, match="whose it is"):
        from_environment({"EDIT_REMOTE": "https://git.example.com/x.git"})


def test_the_original_idle_time_is_used():
    assert settings(AUTO_SHUTDOWN_MINUTES="30").idle_time == 1800


def test_every_variable_is_in_the_documentation():
    """One table has all of them, with the default that the code has."""
    code = "".join(path.read_text() for path in (ROOT / "controller/agent").glob("*.py"))
    # Two are spelt where the launch is put together.
    used = set(re.findall(r"\"(EDIT_[A-Z0-9_]+)\"", code)) | {ENV_GENERATION, ENV_TOKEN_SHA256}
    internal = {"EDIT_ASKPASS_FD", "EDIT_ASKPASS_FOR", "EDIT_AGENT_URL"}
    documented = set(re.findall(r"^\| `(EDIT_[A-Z0-9_]+)`", (ROOT / "docs/agent.md").read_text(), re.MULTILINE))
    assert documented == used - internal


def test_the_command_says_what_is_wrong(tmp_path):
    from controller.agent.git import self_command

    done = subprocess.run(
        self_command("run", "--", "true"),
        env={"PATH": os.environ["PATH"], **NAMES, "EDIT_STOP_TIMEOUT": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert done.stderr.splitlines()[0] == "EDIT_STOP_TIMEOUT is 'soon'"


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--"], ["busy", "x"], ["dance"]])
def test_usage(arguments):
    from controller.agent.git import self_command

    done = subprocess.run(self_command(*arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: edit-agent run")


def test_it_starts_without_what_it_does_not_need():
    """A helper starts for every save: its imports are few, and none of the controller's dependencies is among them."""
    from controller.agent.git import PACKAGE_PATH

    code = "import sys; sys.path.insert(0, sys.argv[1]); import controller.agent.run, controller.agent.workspace;"
    code += "import controller.agent.restore, controller.agent.client; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, PACKAGE_PATH], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"boto3", "botocore", "pydantic", "click", "rich", "kopf", "asyncio", "unittest"})
    ours = {name for name in done.stdout.split() if name.startswith("controller.") and "agent" not in name}
    assert ours == {"controller.core", "controller.core.identity", "controller.errors"}
