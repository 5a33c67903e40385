"""The EditContainer objects of a namespace as they were last seen: by list, by watch, or as the answer to a write.

Thread-safe: the watch puts in, rounds and the publisher read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controller.core.identity import ContainerIdentity
from controller.errors import EditctlError
from controller.kubernetes.resource import Declared, Json, read

DECLARES = ("uid", "generation", "labels", "deletionTimestamp")
"""What of an object's metadata changes what it asks for; its spec has the generation."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One object. declared is None when it cannot be read, and error says why."""

    body: Json
    declared: Declared | None
    error: EditctlError | None = None

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def version(self) -> int:
        """Its resourceVersion, which the API server compares as a number."""
        text = str(self.body["metadata"].get("resourceVersion", ""))
        return int(text) if text.isdigit() else 0

    @property
    def leaving(self) -> bool:
        return bool(self.body["metadata"].get("deletionTimestamp"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the objects say of one container: which declares it, which are passed over for that one, which mirror it."""

    winner: Seen | None
    others: tuple[Seen, ...]
    mirrors: tuple[Seen, ...]


class Objects:
    """The objects by name, and by the container that they are about."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._of: dict[str, set[str]] = {}
        self._gone: dict[str, int] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self.listed = False
        """Whether all of them are known, so that what is not here is not there."""

    def put(self, body: Json) -> str | None:
        """Take in an object; return its container when what it asks for is new. An older state is not news."""
        with self._lock:
            return self._put(body)

    def _put(self, body: Json) -> str | None:
        seen = _read(body)
        before = self._seen.get(seen.name)
        if seen.version < max(before.version if before else 0, self._gone.get(seen.name, -1)):
            return None
        if before and before.version == seen.version:
            return None
        self._drop(seen.name)
        self._seen[seen.name] = seen
        container_id = _container_of(seen)
        if container_id:
            self._of.setdefault(container_id, set()).add(seen.name)
        if before and all(before.body["metadata"].get(n) == body["metadata"].get(n) for n in DECLARES):
            return None
        self._changed |= {i for i in (container_id, _container_of(before) if before else None) if i}
        return container_id

    def remove(self, body: Json) -> str | None:
        """Forget an object that was deleted; return its container."""
        with self._lock:
            seen = _read(body)
            self._gone[seen.name] = seen.version
            container_id = _container_of(self._seen[seen.name]) if seen.name in self._seen else None
            self._drop(seen.name)
            if container_id:
                self._changed.add(container_id)
            return container_id

    def _drop(self, name: str) -> None:
        before = self._seen.pop(name, None)
        container_id = _container_of(before) if before else None
        if container_id:
            self._of[container_id].discard(name)
            if not self._of[container_id]:
                del self._of[container_id]

    def replace(self, bodies: Iterable[Json], version: int) -> frozenset[str]:
        """Take in a whole list, as it was at a resourceVersion; return the containers of which something changed."""
        with self._lock:
            before = set(self._changed)
            names = set()
            for body in bodies:
                names.add(str(body["metadata"]["name"]))
                self._put(body)
            for name in [n for n, seen in self._seen.items() if n not in names and seen.version <= version]:
                container_id = _container_of(self._seen[name])
                self._drop(name)
                if container_id:
                    self._changed.add(container_id)
            self._gone = {name: at for name, at in self._gone.items() if at > version}
            self.listed = True
            return frozenset(self._changed - before)

    def take_changed(self) -> frozenset[str]:
        """Return the containers of which something changed, and forget that."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return frozenset(changed)

    def give_back(self, container_ids: Iterable[str]) -> None:
        """Take them as changed once more."""
        again = set(container_ids)  # before the lock is held: working them out may ask this very object
        with self._lock:
            self._changed |= again

    def of(self, container_id: str) -> Verdict:
        """Return what the objects say of a container."""
        with self._lock:
            here = [self._seen[name] for name in sorted(self._of.get(container_id, ()))]
        asking = sorted(_declaring(here), key=lambda pair: pair[0].precedence)
        return Verdict(
            asking[0][1] if asking else None,
            tuple(seen for _, seen in asking[1:]),
            tuple(seen for seen in here if seen.declared and seen.declared.is_mirror and not seen.leaving),
        )

    def unread(self) -> tuple[Seen, ...]:
        """Return the objects that cannot be read."""
        with self._lock:
            return tuple(seen for seen in self._seen.values() if seen.error)

    def get(self, name: str) -> Seen | None:
        """Return an object."""
        with self._lock:
            return self._seen.get(name)

    def containers(self) -> frozenset[str]:
        """Return the containers that some object is about."""
        with self._lock:
            return frozenset(self._of)

    def __len__(self) -> int:
        with self._lock:
            return len(self._seen)


def identity_of(seen: Seen) -> ContainerIdentity:
    """Return whose container a readable object is about."""
    if seen.declared is None:
        raise ValueError(f"{seen.name} cannot be read")
    return seen.declared.identity


def _declaring(here: Iterable[Seen]) -> Iterator[tuple[Declared, Seen]]:
    for seen in here:
        if seen.declared and not seen.declared.is_mirror and not seen.leaving:
            yield seen.declared, seen


def _read(body: Json) -> Seen:
    try:
        return Seen(body, read(body))
    except EditctlError as error:
        return Seen(body, None, error)


def _container_of(seen: Seen) -> str | None:
    return seen.declared.identity.container_id if seen.declared else None
