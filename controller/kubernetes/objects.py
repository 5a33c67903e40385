"""The EditContainer objects of a namespace as they were last seen: by list, by watch, or as the answer to a write.

Thread-safe: the watch puts in, rounds and the publisher read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from controller.errors import EditctlError
from controller.kubernetes.resource import Declared, Json, read

DECLARES = ("uid", "generation", "labels", "deletionTimestamp")
"""What of an object's metadata changes what it asks for; its spec has the generation."""
READ = frozenset({*DECLARES, "namespace", "name", "resourceVersion", "creationTimestamp"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One object. declared is None when it cannot be read, and error says why."""

    body: Json
    declared: Declared | None
    error: EditctlError | None = None

    @property
    def name(self) -> str:
        return _name(self.body)

    @property
    def version(self) -> int:
        return _version(self.body)

    @property
    def generation(self) -> int:
        return int(self.body["metadata"].get("generation", 0))

    @property
    def uid(self) -> str:
        return _uid(self.body)

    @property
    def leaving(self) -> bool:
        return bool(self.body["metadata"].get("deletionTimestamp"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the objects say of one container."""

    winner: Seen | None
    """Which declares it."""
    others: tuple[Seen, ...]
    """Which are passed over for that one."""
    mirror: Seen | None
    """Which shows it, by the mirror's own name."""
    strays: tuple[Seen, ...]
    """Which have the label of mirrors and another name."""


class Objects:
    """The objects by name, and by the container that they are about."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._of: dict[str, set[str]] = {}
        self._gone: dict[str, int] = {}
        self._listed_at = -1
        self._changed: set[str] = set()
        self._unread: set[str] = set()
        self._lock = threading.Lock()
        self.listed = False
        """Whether all of them are known, so that what is not here is not there."""

    def put(self, body: Json) -> str | None:
        """Take in an object; return its container when what it asks for is new. An older state is not news."""
        with self._lock:
            return self._put(body)

    def _put(self, body: Json) -> str | None:
        name, version = _name(body), _version(body)
        before = self._seen.get(name)
        # The watch may tell later of what a list or a deletion has said already. A uid does not come back.
        if version <= (before.version if before else self._listed_at) or _uid(body) in self._gone:
            return None
        body = _shortened(body)
        is_alike = before and all(before.body["metadata"].get(n) == body["metadata"].get(n) for n in DECLARES)
        seen = replace(before, body=body) if before and is_alike else _read(body)
        self._drop(name)
        self._seen[name] = seen
        container_id = _container_of(seen)
        if container_id:
            self._of.setdefault(container_id, set()).add(name)
        if seen.error:
            self._unread.add(name)
        if is_alike:
            return None
        if before or not (seen.declared and seen.declared.is_mirror):
            # A mirror that comes asks for nothing: there may be thousands of them, and a record to be read for each.
            self._changed |= {i for i in (container_id, _container_of(before) if before else None) if i}
        return container_id

    def remove(self, body: Json) -> str | None:
        """Forget an object that was deleted; return its container. Another one of its name that came since stays."""
        with self._lock:
            self._gone[_uid(body)] = _version(body)
            here = self._seen.get(_name(body))
            return self._forget(here.name) if here and here.uid == _uid(body) else None

    def _forget(self, name: str) -> str | None:
        container_id = _container_of(self._seen[name]) if name in self._seen else None
        self._drop(name)
        if container_id:
            self._changed.add(container_id)
        return container_id

    def _drop(self, name: str) -> None:
        self._unread.discard(name)
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
            if version < self._listed_at:
                # Versions only go up: this is a server that was restored from a copy, and knows nothing of the rest.
                for name in list(self._seen):
                    self._forget(name)
                self._gone.clear()
            self._listed_at = -1
            for body in bodies:
                names.add(_name(body))
                self._put(body)
            self._listed_at = version
            for name in [n for n, seen in self._seen.items() if n not in names and seen.version <= version]:
                self._forget(name)
            self._gone = {uid: at for uid, at in self._gone.items() if at > version}
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
        showing = [seen for seen in here if seen.declared and seen.declared.is_mirror and not seen.leaving]
        asking = sorted(_declaring(here), key=lambda pair: pair[0].precedence)
        return Verdict(
            asking[0][1] if asking else None,
            tuple(seen for _, seen in asking[1:]),
            next((seen for seen in showing if _has_its_name(seen)), None),
            tuple(seen for seen in showing if not _has_its_name(seen)),
        )

    def unread(self) -> tuple[Seen, ...]:
        """Return the objects that cannot be read."""
        with self._lock:
            return tuple(self._seen[name] for name in sorted(self._unread))

    def is_unread(self, uid: str) -> bool:
        """Tell whether the object of this uid is there and cannot be read."""
        return any(seen.uid == uid for seen in self.unread())

    def containers(self) -> frozenset[str]:
        """Return the containers that some object is about."""
        with self._lock:
            return frozenset(self._of)

    def __len__(self) -> int:
        with self._lock:
            return len(self._seen)


def _declaring(here: Iterable[Seen]) -> Iterator[tuple[Declared, Seen]]:
    for seen in here:
        if seen.declared and not seen.declared.is_mirror and not seen.leaving:
            yield seen.declared, seen


def _name(body: Json) -> str:
    return str(body["metadata"]["name"])


def _uid(body: Json) -> str:
    return str(body["metadata"].get("uid", ""))


def _version(body: Json) -> int:
    """Return its resourceVersion, which the API server compares as a number."""
    text = str(body["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def _shortened(body: Json) -> Json:
    """Return what is read of an object: who wrote which field is longer than all the rest."""
    metadata = {name: value for name, value in body["metadata"].items() if name in READ}
    return {
        name: metadata if name == "metadata" else body[name] for name in ("metadata", "spec", "status") if name in body
    }


def _has_its_name(seen: Seen) -> bool:
    return seen.declared is not None and seen.name == seen.declared.identity.kubernetes_name


def _read(body: Json) -> Seen:
    try:
        return Seen(body, read(body))
    except EditctlError as error:
        return Seen(body, None, error)


def _container_of(seen: Seen) -> str | None:
    return seen.declared.identity.container_id if seen.declared else None
