"""What a release is made of, as CycloneDX 1.6: `python -m manifests.sbom OUT.json`.

From the pins of requirements/runtime.txt, which is what the controller's image holds: versions, hashes and who needs
whom are in there. Licences are read from what is installed here. No service is asked.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINS = ROOT / "requirements" / "runtime.txt"

_PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>\S+)")
_HASH = re.compile(r"--hash=sha256:(?P<digest>[0-9a-f]{64})")
_VIA = re.compile(r"^\s+#\s+(?:via\s*)?(?P<who>\S.*)?$")
_OURSELVES = re.compile(r"\(.*pyproject\.toml\)")


@dataclass(frozen=True, slots=True)
class Pin:
    """One pinned package: the digests of its files, and the packages that need it; `""` is our own."""

    name: str
    version: str
    digests: tuple[str, ...]
    needed_by: tuple[str, ...]

    @property
    def ref(self) -> str:
        """Its package URL, which names it in the bill."""
        return purl(self.name, self.version)


def purl(name: str, version: str) -> str:
    """Return a package URL of a Python package."""
    return f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"


def pins(text: str) -> list[Pin]:
    """Return what a file of pip-compile pins."""
    found = []
    for block in re.split(r"\n(?=[a-z0-9])", text):
        head = _PIN.match(block)
        if head:
            digests = tuple(_HASH.findall(block))
            found.append(Pin(head["name"], head["version"].rstrip("\\").strip(), digests, tuple(_needed_by(block))))
    return found


def _needed_by(block: str) -> Iterable[str]:
    for line in block.splitlines():
        via = _VIA.match(line)
        # `-c` and `-r` name files that constrain it, not what needs it.
        if via and via["who"] and not via["who"].startswith("-"):
            yield "" if _OURSELVES.search(via["who"]) else via["who"].strip()


def bill(found: list[Pin], project: Mapping[str, Any], version: str, made_at: datetime) -> dict[str, Any]:
    """Return the bill of materials of a release."""
    ours = purl(project["name"], version)
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": made_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "tools": {"components": [{"type": "application", "name": "manifests.sbom", "version": version}]},
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": project["name"],
                "version": version,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": ours,
            },
        },
        "components": [_component(pin) for pin in found],
        "dependencies": _dependencies(ours, found),
    }
    # Derived, so that the same release gives the same bill.
    name = json.dumps(document, sort_keys=True)
    return {**document, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"}


def _component(pin: Pin) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": pin.ref,
        "name": pin.name,
        "version": pin.version,
        "purl": pin.ref,
        # Of each file that pip may install for it; which one depends on the platform.
        "properties": [{"name": "pip:sha256", "value": digest} for digest in pin.digests],
    }
    licence = _licence(pin)
    return {**component, "licenses": [licence]} if licence else component


def _licence(pin: Pin) -> dict[str, Any] | None:
    try:
        metadata = importlib.metadata.metadata(pin.name)
    except importlib.metadata.PackageNotFoundError:
        return None
    if "License-Expression" in metadata:
        return {"expression": metadata["License-Expression"]}
    classifiers = [c.rpartition(":: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    name = next(iter(classifiers), None) or "".join(metadata.get_all("License") or []).partition("\n")[0]
    return {"license": {"name": name}} if name else None


def _dependencies(ours: str, found: list[Pin]) -> list[dict[str, Any]]:
    needs: dict[str, list[str]] = {ours: [], **{pin.ref: [] for pin in found}}
    refs = {pin.name: pin.ref for pin in found} | {"": ours}
    for pin in found:
        for who in pin.needed_by:
            # An extra is written as `moto[sqs]`.
            needs[refs[who.partition("[")[0]]].append(pin.ref)
    return [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in needs.items()]


def main(out: str) -> int:
    """Write the bill of this tree."""
    from controller import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    made_at = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    document = bill(pins(PINS.read_text(encoding="utf-8")), project, __version__, made_at)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{out}: {len(document['components'])} components\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
