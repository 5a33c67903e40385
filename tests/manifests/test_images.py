"""Both images, built by podman on a base made of Debian packages, and run: no image registry is needed.

One test, since what is built is large: it is built once and thrown away afterwards.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from controller import __version__
from manifests.docker import debian_base
from tests.manifests.needs import ROOT, missing
from tests.manifests.podman import NETWORK_NONE, Podman, podman_or_none

LARGEST = {"editctl": 180, "edit-container": 180}
"""Megabytes, with a base of about 50 and 110."""

BUILD_LATER = 75


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    """Return a podman that works here."""
    with podman_or_none(tmp_path, "the images are not built", NETWORK_NONE) as found:
        yield found


@pytest.mark.timeout(600)
def test_the_images_are_built_run_and_small(podman, tmp_path, capsys):
    built = podman("--debian", script=str(ROOT / "manifests" / "docker" / "build"))
    if built.returncode == BUILD_LATER:
        missing("the images are not built: wheels cannot be fetched", built.stderr.strip()[-300:])
    assert built.returncode == 0, built.stderr[-3000:]
    sizes = _sizes(built.stdout)
    with capsys.disabled():
        sys.stdout.write(f"\nimages: {', '.join(built.stdout.splitlines())}\n")
    assert sizes.keys() == LARGEST.keys()
    assert {name: size for name, size in sizes.items() if size > LARGEST[name]} == {}
    _check_controller(podman)
    _check_edit_container(podman, tmp_path)


def _sizes(printed: str) -> Mapping[str, int]:
    lines = (line.rpartition("/")[2].split(": ") for line in printed.splitlines())
    return {name: int(size.removesuffix(" MB")) for name, size in lines}


def _check_controller(podman: Podman) -> None:
    hardened = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
    version = podman.run("editctl", "--version", options=hardened)
    assert version.stdout == f"editctl {__version__}\n", version.stderr
    # What it says without AWS: a sentence, and no trace of a file that could not be written.
    plan = podman.run("editctl", "plan", options=hardened)
    assert plan.returncode == 1
    assert plan.stderr.startswith("error: ")
    assert "Traceback" not in plan.stderr
    who = podman.run("editctl", "-c", "import os, kopf, boto3; print(os.getuid())", options=(*hardened, _PYTHON))
    assert who.stdout == "65532\n", who.stderr
    pip = podman.run("editctl", "-c", "import pip", options=(*hardened, _PYTHON))
    assert "No module named 'pip'" in pip.stderr


def _check_edit_container(podman: Podman, folder: Path) -> None:
    own = "--entrypoint=/opt/edit-agent/bin/python3"
    bare = podman.run("edit-container", "-c", "import boto3", options=(own,))
    assert "No module named 'boto3'" in bare.stderr
    # A workload that writes a file and ends: its work is at the remote, its exit code is the container's.
    remote = folder / "remote"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    told = {
        "CLIENT_ID": "acme",
        "PROJECT_ID": "blog",
        "USER_ID": "tom",
        "CONTAINER_ID": "acme-blog-tom",
        "WORKSPACE_PATH": "/workspace/acme/blog",
        "EDIT_REMOTE": "/remote",
    }
    options = [f"--env={name}={value}" for name, value in told.items()]
    work = 'id -u; cd "$WORKSPACE_PATH" && echo hello >greeting; exit 3'
    ran = podman.run("edit-container", "sh", "-c", work, options=(f"--volume={remote}:/remote", *options))
    assert (ran.stdout, ran.returncode) == ("1000\n", 3), ran.stderr
    saved = subprocess.run(
        ["git", "-C", remote, "show", "edit/acme-blog-tom/wip:greeting"], capture_output=True, text=True, check=False
    )
    assert saved.stdout == "hello\n", f"{saved.stderr}\n{ran.stderr}"


_PYTHON = "--entrypoint=python3"


# The base without podman


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this is no Debian or Ubuntu")
def test_a_package_that_is_not_there_is_named(tmp_path, capsys):
    assert debian_base.main(str(tmp_path / "base.tar"), "libc6", "no-such-package") == 1
    assert "apt-get install no-such-package" in capsys.readouterr().err
    assert not (tmp_path / "base.tar").exists()


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this is no Debian or Ubuntu")
def test_a_base_has_what_its_packages_need_and_no_package_manager():
    found = debian_base.closure(("git", "python3"))
    assert {"git", "python3", "libc6", "zlib1g"} <= found
    assert not found & {"dpkg", "perl", "apt"}


@pytest.mark.parametrize("name", ["controller", "edit"])
def test_what_goes_into_an_image_is_listed(name):
    listed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    lines = (ROOT / "manifests" / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert {source for copy in copies for source in copy} <= {line[1:] for line in listed if line[:1] == "!"}


def test_nobody_is_root_in_the_controller():
    text = (ROOT / "manifests" / "docker" / "controller.Dockerfile").read_text(encoding="utf-8")
    assert "USER 65532:65532" in text
