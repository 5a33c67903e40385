"""Where our objects are on the API server, and what is in manifests/kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from controller.kubernetes import resource
from tests.kubernetes.cluster import ControlPlane

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests" / "kubernetes"

Json = dict[str, Any]


def path(namespace: str, name: str = "") -> str:
    """Return the path of one EditContainer, or of all in a namespace."""
    whole = f"/apis/{resource.API_VERSION}/namespaces/{namespace}/{resource.PLURAL}"
    return f"{whole}/{name}" if name else whole


def documents(text: str) -> list[Json]:
    """Return the objects of a YAML stream."""
    return [each for each in yaml.safe_load_all(text) if each is not None]


def built(control_plane: ControlPlane, folder: Path) -> list[Json]:
    """Return what kustomize makes of a folder."""
    return documents(control_plane.kubectl("kustomize", str(folder)).stdout)


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    """Return those of a kind."""
    return [each for each in objects if each["kind"] == kind]
