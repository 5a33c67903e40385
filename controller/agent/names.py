"""Refs and addresses that are derived from the identity.

A part of an identity may hold anything but control characters, so it is escaped before it becomes part of a ref or a
URL. `-` inside a part is escaped as well: `a-b` + `c` and `a` + `b-c` must not share a branch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from controller.core.identity import ContainerIdentity
from controller.errors import ConfigError

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@+.")
_LONGEST = 180
_KEPT = 140
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def escape_part(part: str, *, keep: str = "") -> str:
    """Return the part in letters that are safe in a ref and in a URL; different parts stay different.

    Everything outside `A-Z a-z 0-9 _ @ + .` becomes `%` and two hexadecimal digits for each byte of its UTF-8 form, and
    so does a `.` where git or a path would give it a meaning: in front, after another one, and in a final `.lock`.
    """
    text = "".join(c if c in _PLAIN or c in keep else _percent(c) for c in part)
    text = re.sub(r"(?<![^.])\.", "%2E", text)
    text = re.sub(r"\.(?=lock$)", "%2E", text, flags=re.IGNORECASE)
    text = re.sub(r"\.$", "%2E", text)
    return "%40" if text == "@" else text


def _percent(c: str) -> str:
    return "".join(f"%{byte:02X}" for byte in c.encode())


def escaped_id(identity: ContainerIdentity) -> str:
    """Return the text that names the container in refs. For an id without odd characters it is the container id.

    A remote keeps a ref in a file of that name, so what is too long for one ends in a hash.
    """
    text = "-".join(escape_part(part) for part in (identity.client_id, identity.project_id, identity.user_id))
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_KEPT].rstrip('.%')}={hashlib.sha256(text.encode()).hexdigest()[:32]}"


def render(template: str, identity: ContainerIdentity) -> str:
    """Return the template with {client}, {project}, {user} and {id} filled in, each escaped."""
    values = {
        "client": escape_part(identity.client_id, keep="-"),
        "project": escape_part(identity.project_id, keep="-"),
        "user": escape_part(identity.user_id, keep="-"),
        "id": escaped_id(identity),
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ConfigError(
                f"template {template!r} has the placeholder {match[0]}",
                f"known are {', '.join('{' + name + '}' for name in values)}",
                "correct the template",
            )
        return values[match[1]]

    return _PLACEHOLDER.sub(fill, template)


@dataclass(frozen=True, slots=True)
class Refs:
    """The refs at the remote that belong to one container."""

    escaped: str

    @property
    def wip(self) -> str:
        """Uncommitted work."""
        return f"refs/heads/edit/{self.escaped}/wip"

    @property
    def rescue(self) -> str:
        """What the remote refused elsewhere, one ref each, below this."""
        return f"refs/heads/rescue/{self.escaped}/"

    @staticmethod
    def is_reserved(ref: str) -> bool:
        """Whether a local branch of that name must not be pushed to: another user's work could be there."""
        return ref.startswith(("refs/heads/edit/", "refs/heads/rescue/")) or ref in (
            "refs/heads/edit",
            "refs/heads/rescue",
        )
