"""Node, the packages of docs/hermes, and the compiled service.

The packages go into a cache folder that is named by their lock, so they are fetched once for each lock. What the
environment says is read when this is imported: later, tests have an environment and a home of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "docs" / "hermes"
OLDEST_NODE = 20
HOW_TO_GET_IT = (
    f"Hermes' TypeScript was not tested: it needs Node.js {OLDEST_NODE} or newer with npm on the PATH "
    "(nodejs.org, your system's package manager, or nvm), then run this again."
)
OFFLINE = (
    "Hermes' TypeScript was not tested: the npm registry did not answer, and its packages are not in the cache yet. "
    "Run this once with a connection; after that none is needed."
)
_ENVIRONMENT = dict(os.environ)
_CACHE = Path(_ENVIRONMENT.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "editctl"
_MANIFEST = ("package.json", "package-lock.json", ".npmrc")
_NO_CONNECTION = re.compile(r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH)\b")

MUST_RUN = _ENVIRONMENT.get("CI", "").lower() not in ("", "0", "false")
"""On CI nothing may be skipped."""


class Missing(Exception):
    """Something is not on this machine; the text says what and how to get it."""


def node() -> str:
    """Return the path of a Node that is new enough. Raises Missing."""
    found, npm = (shutil.which(name, path=_ENVIRONMENT.get("PATH")) for name in ("node", "npm"))
    if found is None or npm is None:
        raise Missing(HOW_TO_GET_IT)
    version = _run([found, "--version"]).removeprefix("v")
    if int(version.partition(".")[0]) < OLDEST_NODE:
        raise Missing(f"{HOW_TO_GET_IT} (Here is {version.strip()}.)")
    return found


def packages() -> Path:
    """Return the node_modules of the lock, from the cache or else from the registry. Raises Missing."""
    lock = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in _MANIFEST)).hexdigest()[:16]
    folder = _CACHE / f"hermes-{lock}"
    with _alone(_CACHE / "hermes.lock"):
        if not folder.exists():
            _install(folder)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_CACHE, prefix="hermes-installing-") as name:
        new = Path(name) / "whole"
        new.mkdir()
        for file in _MANIFEST:
            shutil.copy(SOURCES / file, new)
        try:
            # A script of a package could do anything; none is needed.
            _run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retry-maxtimeout=10000"], cwd=new
            )
        except subprocess.CalledProcessError as failed:
            if _NO_CONNECTION.search(failed.output):
                raise Missing(OFFLINE) from failed
            raise AssertionError(f"npm ci failed:\n{failed.output}") from failed
        new.rename(folder)


def compiled(folder: Path) -> Path:
    """Compile the service and its driver into a folder and return the driver's program."""
    shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(packages())
    try:
        _run([node(), "node_modules/typescript/bin/tsc", "--project", "."], cwd=folder)
    except subprocess.CalledProcessError as failed:
        raise AssertionError(f"tsc refused the service:\n{failed.output}") from failed
    return folder / "dist" / "test" / "driver.mjs"


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other test processes out: only one of them is to install."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    return done.stdout
