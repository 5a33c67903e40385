"""Where kube-apiserver, etcd and kubectl are on this machine.

KUBEBUILDER_ASSETS names their folder, as it does for other projects (setup-envtest downloads them); without it they are
where `make control-plane` puts them: in the user's cache, by version, so that every checkout shares them.
What the environment says is read when this is imported: later, tests have an environment and a home of their own.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

MODULE = Path(__file__).parent
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
ENVIRONMENT = dict(os.environ)
VARIABLE = "KUBEBUILDER_ASSETS"
ON_CI = bool(ENVIRONMENT.get("CI"))
"""On CI nothing may be skipped."""

_GO_MOD = (MODULE / "go.mod").read_text(encoding="utf-8")


def _pinned(module: str) -> str:
    found = re.search(rf"\s{re.escape(module)} v(\S+)", _GO_MOD)
    assert found, f"go.mod does not require {module}"
    return found[1]


KUBERNETES = _pinned("k8s.io/kubernetes")
ETCD = _pinned("go.etcd.io/etcd/server/v3")

CACHE = Path(ENVIRONMENT.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "editctl" / "control-plane"
BUILT = CACHE / f"kubernetes-{KUBERNETES}-etcd-{ETCD}-{sys.platform}-{platform.machine()}"

HOW_TO_GET_IT = (
    "there is no Kubernetes API server here: `make control-plane` builds one (about 7 minutes, once; needs Go 1.26), "
    f"or let {VARIABLE} name a folder with kube-apiserver, etcd and kubectl (setup-envtest downloads them)"
)


class Missing(Exception):
    """Something is not on this machine; the text says what and how to get it."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder that has all three."""

    folder: Path

    @property
    def etcd(self) -> Path:
        return self.folder / "etcd"

    @property
    def apiserver(self) -> Path:
        return self.folder / "kube-apiserver"

    @property
    def kubectl(self) -> Path:
        return self.folder / "kubectl"


def lacking(folder: Path) -> list[str]:
    """Return which of the three are not in a folder, or cannot be run."""
    return [name for name in PROGRAMS if not os.access(folder / name, os.X_OK)]


def find() -> Programs:
    """Return the programs. Raises Missing."""
    named = ENVIRONMENT.get(VARIABLE)
    if not named:
        if lacking(BUILT):
            raise Missing(HOW_TO_GET_IT)
        return Programs(BUILT)
    folder = Path(named).expanduser().absolute()
    if lacking(folder):
        raise Missing(
            f"{VARIABLE} is '{named}', and {', '.join(lacking(folder))} cannot be run there: "
            "correct it, or unset it and run `make control-plane`"
        )
    return Programs(folder)
