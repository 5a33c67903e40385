"""podman with a store and a configuration of its own, for tests that build images or run containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.manifests.needs import ON_CI, ROOT, missing

ROOM = 2 << 30
"""Bytes; a build takes less than half of it for a minute."""
# Read while tests are collected: .ci/run sets it where podman cannot be installed.
CANNOT_BE_INSTALLED = bool(os.environ.get("NO_PODMAN"))
PATIENCE = 500
"""Seconds for one command; building takes about 40 on an idle machine."""

NETWORK_NONE = 'netns = "none"'
"""Lines of containers.conf about the network; {folder} is the folder of the store."""

CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
{network}
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
{runtime}
"""
STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


class Podman:
    """podman with a store of its own, which goes when the test ends."""

    def __init__(self, folder: Path, network: str) -> None:
        runtime = 'runtime = "runc"' if shutil.which("runc") else ""
        settings = CONTAINERS.format(runtime=runtime, network=network.format(folder=folder))
        (folder / "containers.conf").write_text(settings, encoding="utf-8")
        self.folder = folder
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "TMPDIR": str(folder),
            "PYTHON": sys.executable,
            "ENGINE": "podman",
            "NAME": "localhost/test",
        }

    def works(self) -> str:
        """Return why podman cannot be used, nothing if it can. Copying layers is slow, so overlay is tried first."""
        for driver in ("overlay", "vfs"):
            text = STORAGE.format(driver=driver, folder=self.folder)
            (self.folder / "storage.conf").write_text(text, encoding="utf-8")
            ended = self("info", "--format", "{{.Store.GraphDriverName}}")
            if ended.returncode == 0:
                return ""
        return ended.stderr.strip()[-300:]

    def __call__(self, *arguments: str, script: str = "") -> subprocess.CompletedProcess[str]:
        command = [script] if script else ["podman"]
        return subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def run(self, image: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        return self("run", "--rm", *options, f"localhost/test/{image}", *arguments)

    def clear(self) -> None:
        """Remove all containers and images, and what is mounted of them."""
        self("rm", "--all", "--force", "--time=0")
        self("rmi", "--all", "--force")
        overlay = self.folder / "graph" / "overlay"
        if overlay.is_mount():
            subprocess.run(["umount", overlay], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def podman_or_none(tmp_path: Path, otherwise: str, network: str) -> Iterator[Podman]:
    """Give a podman that works here; where there is none, skip with the sentence, or fail where it has to run."""
    if shutil.which("podman") is None:
        # .ci/run installs it, and says so when it cannot.
        must = ON_CI and not CANNOT_BE_INSTALLED
        missing(f"{otherwise}: podman is not here", "apt-get install podman runc", must=must)
    if shutil.which("dpkg-query") is None:
        missing(f"{otherwise}: this is no Debian or Ubuntu", "the base image is made of its packages")
    found = Podman(_store(tmp_path), network)
    try:
        if why := found.works():
            missing(f"{otherwise}: podman is not permitted here", why)
        yield found
    finally:
        found.clear()


def _store(tmp_path: Path) -> Path:
    """Return a folder for the layers: in memory if there is room, since podman waits for the disk at every one."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > ROOM:
        return Path(tempfile.mkdtemp(prefix="editctl-images-", dir=memory))
    return tmp_path
