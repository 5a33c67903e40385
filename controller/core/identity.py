"""Who a container belongs to, and every name that is derived from that.

A container id is the plain text `{client}-{project}-{user}` that the original system writes. The text is not
injective (`a-b` + `c` and `a` + `b-c` meet), so the triple decides: it is kept in tags, record and session rows,
and compared whole before anything is adopted, started or stopped.

This is the only file that spells a tag key or the environment of a task.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controller.errors import InvalidIdentity

TAG_CONTAINER = "ContainerId"
TAG_CLIENT = "ClientId"
TAG_PROJECT = "ProjectId"
TAG_USER = "UserId"
TAG_MANAGED_BY = "ManagedBy"
TAG_CONTROLLER = "Controller"
MANAGED_BY = "editctl"

ENV_CLIENT = "CLIENT_ID"
ENV_PROJECT = "PROJECT_ID"
ENV_USER = "USER_ID"
ENV_CONTAINER = "CONTAINER_ID"
ENV_WORKSPACE = "WORKSPACE_PATH"
ENV_AUTO_SHUTDOWN = "AUTO_SHUTDOWN_MINUTES"
ENV_GENERATION = "EDIT_GENERATION"
ENV_CONTROLLER = "EDIT_CONTROLLER"
ENV_TOKEN_SHA256 = "EDIT_TOKEN_SHA256"
"""What a launch tells of its agent's token: the digest, by which the key that made it is found again."""

MAX_TAG_VALUE = 256
"""Characters in a tag value (ECS API, TagValue)."""
MAX_KEY_BYTES = 2048
"""Bytes of a DynamoDB partition key."""
MAX_KUBERNETES_NAME = 63
"""Characters of an RFC 1123 label, the narrowest of the names that Kubernetes takes."""

_TAG_ESCAPE = "="
_PLAIN_TAG = re.compile(r"[A-Za-z0-9 _.:/+@-]*")
_CONTROLLER_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PLAIN_NAME = re.compile(r"[a-z0-9]+")
_HASH_OF_A_NAME = 20
"""Characters of 5 bits each: nobody finds two triples with one hash, by chance or by trying."""
_DASHES_OF_A_PLAIN_ID = 2


@dataclass(frozen=True, slots=True, order=True)
class ContainerIdentity:
    """One client, project and user: the owner of at most one edit container.

    Raises InvalidIdentity when a part is empty, is not in Unicode NFC (two spellings of one name would be two
    containers), has a control character, or when the names made of it would be longer than AWS allows.
    """

    client_id: str
    project_id: str
    user_id: str

    def __post_init__(self) -> None:
        for name, value in (("clientId", self.client_id), ("projectId", self.project_id), ("userId", self.user_id)):
            _check_part(name, value)
        if len(self.container_id.encode()) > MAX_KEY_BYTES or len(escape_tag(self.container_id)) > MAX_TAG_VALUE:
            raise InvalidIdentity(
                f"container id '{self.container_id[:60]}…' is too long",
                f"it takes {len(escape_tag(self.container_id))} characters as a tag, ECS allows {MAX_TAG_VALUE}",
                "use shorter client, project and user ids",
            )

    @property
    def container_id(self) -> str:
        """The plain text that names record and container."""
        return f"{self.client_id}-{self.project_id}-{self.user_id}"

    @property
    def kubernetes_name(self) -> str:
        """The name of its object in Kubernetes: an RFC 1123 label that no other identity has.

        It is the container id where every part is made of a-z and 0-9 alone and the whole fits. Else the parts, with
        other characters left out, are there to be read, and after `--`, which no plain name has, a hash of the triple
        tells it from others: `acme-blog-tom-acme-com--x3k…`.
        """
        parts = (self.client_id, self.project_id, self.user_id)
        plain = self.container_id
        if len(plain) <= MAX_KUBERNETES_NAME and all(_PLAIN_NAME.fullmatch(p) for p in parts):
            return plain
        digest = hashlib.sha256(json.dumps(parts).encode()).digest()
        ending = "--" + base64.b32encode(digest).decode().lower()[:_HASH_OF_A_NAME]
        readable = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[: MAX_KUBERNETES_NAME - len(ending)].rstrip("-")
        return (readable or "container") + ending

    def __str__(self) -> str:
        return f"{self.client_id} + {self.project_id} + {self.user_id}"


def _check_part(name: str, value: str) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidIdentity(
            f"{name} is empty", "a container belongs to one client, project and user", f"give a {name}"
        )
    if value.isascii() and value.isprintable():
        return  # nothing below can be wrong with it, and nearly all ids are so
    if unicodedata.normalize("NFC", value) != value:
        raise InvalidIdentity(
            f"{name} {value!r} is not in Unicode NFC",
            "two spellings of one name would get two containers",
            "normalise it",
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in value):
        raise InvalidIdentity(
            f"{name} {value!r} has a control character", "it can be neither a tag nor an environment value", "remove it"
        )


def split_container_id(container_id: str) -> ContainerIdentity | None:
    """Return the triple that the text names, or None when more than one triple could be meant.

    Only a text with exactly two `-` and no empty part can be split without guessing.
    """
    parts = container_id.split("-")
    if len(parts) != _DASHES_OF_A_PLAIN_ID + 1 or not all(parts):
        return None
    return identity_or_none(*parts)


def identity_or_none(client_id: object, project_id: object, user_id: object) -> ContainerIdentity | None:
    """Return the triple, or None when any part is missing or cannot be part of an identity."""
    if not (isinstance(client_id, str) and isinstance(project_id, str) and isinstance(user_id, str)):
        return None
    try:
        return ContainerIdentity(client_id, project_id, user_id)
    except InvalidIdentity:
        return None


# Tags


def escape_tag(value: str) -> str:
    """Return the value in the alphabet of ECS tags; `unescape_tag` gives it back.

    ECS allows letters, numbers, spaces and `_ . : / = + - @` (API reference, TagValue) and no `aws:` in front. What
    lies outside, and `=` itself, becomes `=` and two hexadecimal digits for each byte of its UTF-8 form.
    """
    if value[:4].lower() == "aws:":
        return _hex_bytes(value[0]) + _escape_all(value[1:])
    return _escape_all(value)


def _escape_all(value: str) -> str:
    if _PLAIN_TAG.fullmatch(value):
        return value
    return "".join(c if _is_tag_safe(c) else _hex_bytes(c) for c in value)


def _is_tag_safe(c: str) -> bool:
    return c in " _.:/+-@" or unicodedata.category(c)[0] == "L" or unicodedata.category(c) in ("Nd", "Nl", "No")


def _hex_bytes(c: str) -> str:
    return "".join(f"{_TAG_ESCAPE}{byte:02X}" for byte in c.encode())


def unescape_tag(value: str) -> str | None:
    """Return the value that `escape_tag` was given, or None when this is not its work."""
    if _PLAIN_TAG.fullmatch(value) and value[:4].lower() != "aws:":
        return value
    out = bytearray()
    position = 0
    while position < len(value):
        c = value[position]
        if c != _TAG_ESCAPE:
            out += c.encode("utf-8", "surrogatepass")
            position += 1
            continue
        digits = value[position + 1 : position + 3]
        if len(digits) < 2 or any(d not in "0123456789ABCDEF" for d in digits):
            return None
        out.append(int(digits, 16))
        position += 3
    try:
        plain = out.decode()
    except UnicodeDecodeError:
        return None
    return plain if escape_tag(plain) == value else None


def tags_for(identity: ContainerIdentity, controller_id: str) -> dict[str, str]:
    """Return the tags of a task that we launch or mark, in a fixed order."""
    return {
        TAG_CONTAINER: escape_tag(identity.container_id),
        TAG_CLIENT: escape_tag(identity.client_id),
        TAG_PROJECT: escape_tag(identity.project_id),
        TAG_USER: escape_tag(identity.user_id),
        TAG_MANAGED_BY: MANAGED_BY,
        TAG_CONTROLLER: controller_id,
    }


def identity_from_tags(tags: Mapping[str, str]) -> ContainerIdentity | None:
    """Return the triple that the tags name, ours or the original system's (which has no UserId), or None."""
    client, project = (tags.get(key) for key in (TAG_CLIENT, TAG_PROJECT))
    if client is None or project is None:
        return None
    user = tags.get(TAG_USER)
    if user is not None:
        return identity_or_none(unescape_tag(client), unescape_tag(project), unescape_tag(user))
    prefix = f"{client}-{project}-"
    whole = tags.get(TAG_CONTAINER, "")
    return identity_or_none(client, project, whole[len(prefix) :]) if whole.startswith(prefix) else None


# The task's environment, startedBy and client token


def environment_for(
    identity: ContainerIdentity, generation: int, controller_id: str, idle_minutes: int
) -> dict[str, str]:
    """Return the environment of the container: the original's variables, then ours with the prefix EDIT_."""
    return {
        ENV_CLIENT: identity.client_id,
        ENV_PROJECT: identity.project_id,
        ENV_USER: identity.user_id,
        ENV_CONTAINER: identity.container_id,
        ENV_WORKSPACE: f"/workspace/{identity.client_id}/{identity.project_id}",
        ENV_AUTO_SHUTDOWN: str(idle_minutes),
        ENV_GENERATION: str(generation),
        ENV_CONTROLLER: controller_id,
    }


def identity_from_environment(environment: Mapping[str, str]) -> ContainerIdentity | None:
    """Return the triple that a task's override environment names; it stays when StopTask has deleted the tags."""
    triple = identity_or_none(*(environment.get(key) for key in (ENV_CLIENT, ENV_PROJECT, ENV_USER)))
    return triple if triple and environment.get(ENV_CONTAINER, triple.container_id) == triple.container_id else None


def generation_from_environment(environment: Mapping[str, str]) -> int | None:
    """Return the launch generation that the task carries, or None for a task that we did not launch."""
    text = environment.get(ENV_GENERATION, "")
    return int(text) if text.isascii() and text.isdigit() else None


def check_controller_id(controller_id: str) -> str:
    """Return the controller id, or raise InvalidIdentity: `startedBy` takes no other characters."""
    if not _CONTROLLER_ID.fullmatch(controller_id):
        raise InvalidIdentity(
            f"controller id {controller_id!r} cannot be used",
            "it becomes part of startedBy, where ECS allows letters, digits, - and _",
            "choose 1 to 100 of those characters",
        )
    return controller_id


def started_by(controller_id: str) -> str:
    """Return the constant `startedBy` of this controller's tasks: one ListTasks shows them all."""
    return f"{MANAGED_BY}/{controller_id}"


def client_token(cluster: str, identity: ContainerIdentity, generation: int, requested_at: int) -> str:
    """Return the RunTask client token of one launch: 64 hexadecimal digits, the same however often it is asked for."""
    parts = [cluster, identity.client_id, identity.project_id, identity.user_id, generation, requested_at]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# Whose a task is


class Ownership(StrEnum):
    """Whose a task is that carries one of our container ids."""

    OURS = "ours"
    ORIGINAL = "original"
    """Launched by the original system: its tags, no ManagedBy. Adopted, then marked as ours."""
    FOREIGN = "foreign"
    """Another controller's mark, or an id claimed without tags. Shown, never touched."""


MAX_FAMILY = 255
"""Characters in a task-definition family (ECS API, RegisterTaskDefinition)."""

_FAMILY_SAFE = re.compile(r"[A-Za-z0-9_-]")
_LOOKS_ESCAPED = re.compile(r"_(?=[0-9A-F]{2})")


def escape_family(value: str) -> str:
    """Return the value in the alphabet of families and log stream prefixes, different values as different texts.

    ECS allows letters, digits, `_` and `-`. What lies outside becomes `_` and two hexadecimal digits for each byte of
    its UTF-8 form, and so does a `_` that could be taken for the beginning of one; other values stay as they are.
    """
    plain = _LOOKS_ESCAPED.sub("_5F", value)
    return "".join(c if _FAMILY_SAFE.fullmatch(c) else "".join(f"_{b:02X}" for b in c.encode()) for c in plain)


def project_log_prefix(identity: ContainerIdentity) -> str:
    """Return the log stream prefix of a project's containers: the original system's `{clientId}-{projectId}`."""
    return f"{escape_family(identity.client_id)}-{escape_family(identity.project_id)}"


def project_family(prefix: str, identity: ContainerIdentity) -> str:
    """Return a project's family, the original's `{prefix}-{clientId}-{projectId}`; a long one ends in a hash."""
    family = f"{prefix}-{project_log_prefix(identity)}"
    if len(family) <= MAX_FAMILY:
        return family
    digest = hashlib.sha256(family.encode()).hexdigest()[:16]
    return f"{family[: MAX_FAMILY - len(digest) - 1]}-{digest}"


def family_matches(family: str, prefix: str) -> bool:
    """Say whether a task-definition family is the configured one or one of its per-project clones."""
    return family == prefix or family.startswith(prefix + "-")


def classify(
    *,
    tags: Mapping[str, str],
    environment: Mapping[str, str],
    task_started_by: str,
    family: str,
    live: bool,
    controller_id: str,
    family_prefix: str,
) -> tuple[Ownership, ContainerIdentity] | None:
    """Return whose the task is and the triple it carries, or None when it does not exist for us.

    A live task is judged by its tags alone. StopTask deletes the tags, so a task that is stopping or stopped is
    recognised by `startedBy` and its override environment.
    """
    by_tags = identity_from_tags(tags)
    by_environment = identity_from_environment(environment)
    if by_tags and by_environment and by_tags != by_environment:
        return Ownership.FOREIGN, by_environment
    if by_tags and tags.get(TAG_MANAGED_BY) == MANAGED_BY:
        return (Ownership.OURS if tags.get(TAG_CONTROLLER) == controller_id else Ownership.FOREIGN), by_tags
    if by_tags and TAG_MANAGED_BY not in tags and TAG_CONTAINER in tags and family_matches(family, family_prefix):
        return Ownership.ORIGINAL, by_tags
    if by_environment is None:
        return (Ownership.FOREIGN, by_tags) if by_tags else None
    if not live and task_started_by == started_by(controller_id):
        return Ownership.OURS, by_environment
    if not live and family_matches(family, family_prefix) and not task_started_by.startswith(MANAGED_BY + "/"):
        return Ownership.ORIGINAL, by_environment
    return Ownership.FOREIGN, by_environment
