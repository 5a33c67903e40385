"""Packs a base image out of Debian packages that are installed on this machine: for places without an image registry.

`debian_base.py OUT.tar PACKAGE…` takes the packages and what they depend on, their files and nothing else: no
documentation, no translations, no package manager, nothing that was configured by hand. It needs dpkg and no root.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

# For commands of git that no agent uses, and for installing more. Perl alone is larger than all the rest.
LEFT_OUT = {"debconf", "dpkg", "git-man", "liberror-perl", "mailcap", "media-types", "openssl", "perl", "tar"}
SKIPPED = re.compile(r"/usr/share/(?:doc|man|locale|info|lintian|bash-completion|bug)/|/__pycache__/")
LINKS = ("bin", "lib", "lib64", "sbin")
"""Of a merged /usr: names in the root that lead into it."""

_NAMES = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)")

FOLDERS = {"dev": 0o755, "etc": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777}
FILES = {
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
}
SKELETON = {*FOLDERS, *FILES, *LINKS}


class MissingPackages(Exception):
    """Packages that are not installed here."""


def main(out: str, *wanted: str) -> int:
    """Write the image's root as a tar; 1 when a package is not installed."""
    try:
        packages = closure(wanted)
    except MissingPackages as missing:
        sys.stderr.write(f"error: not installed on this machine: {missing}\n  run: apt-get install {missing}\n")
        return 1
    with tarfile.open(out, "w") as tar:
        _skeleton(tar)
        for path in sorted(files(packages)):
            tar.add(path, arcname=str(path).lstrip("/"), recursive=False, filter=_plain)
    return 0


def closure(wanted: tuple[str, ...]) -> set[str]:
    """Return the packages and all that they depend on, as far as it is installed."""
    installed = _installed()
    absent = [name for name in wanted if name not in installed]
    if absent:
        raise MissingPackages(" ".join(absent))
    found: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name in found or name in LEFT_OUT or name not in installed:
            continue
        found.add(name)
        todo += installed[name]
    return found


def _installed() -> dict[str, list[str]]:
    """Return every installed package with what it depends on, alternatives and all."""
    form = "${db:Status-Status}\t${Package}\t${Depends}, ${Pre-Depends}\n"
    listing = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in listing.splitlines():
        status, name, needs = line.split("\t")
        if status == "installed":
            found[name] = _NAMES.findall(needs)
    return found


def files(packages: set[str]) -> Iterator[Path]:
    """Yield the files and directories of the packages, each where it really is."""
    seen: set[Path] = set()
    listing = subprocess.run(["dpkg-query", "-L", *sorted(packages)], check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        path = Path(line)
        if not line.startswith("/") or SKIPPED.search(line) or not (path.exists() or path.is_symlink()):
            continue
        # /lib/x is /usr/lib/x on a merged /usr; the link itself is in the skeleton.
        real = path.parent.resolve() / path.name
        if real in seen or (real.parent == Path("/") and real.name in LINKS):
            continue
        seen.add(real)
        yield real


def _skeleton(tar: tarfile.TarFile) -> None:
    for name in LINKS:
        if Path("/", name).is_symlink():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
    for name, mode in FOLDERS.items():
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, mode
        tar.addfile(folder)
    for name, text in FILES.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if entry.name in SKELETON:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
