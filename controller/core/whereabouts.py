"""Which cluster and which tables these are, by what nobody else can have: an ARN, and ids that a new table gets anew.

The first run keeps them. When they differ later, a wrong region, account or table is at hand, or one that was deleted
and made again: it looks like a fleet that nobody uses, and nothing may be done by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.errors import PlanError, WrongWorld


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """cluster is its ARN; tables is the id of each table by its name, in the order sessions, containers, controller."""

    cluster: str
    tables: Mapping[str, str] = field(default_factory=dict)


def differences(first: Whereabouts, here: Whereabouts) -> tuple[str, ...]:
    """Return a sentence for everything that is not as it was first; none when all is."""
    cluster = [f"the cluster was {first.cluster}, it is {here.cluster}"] if first.cluster != here.cluster else []
    known = ", ".join(first.tables) or "none"
    others = (f"table '{n}' is not among those seen first ({known})" for n in here.tables.keys() - first.tables.keys())
    anew = (
        f"table '{n}' is another one of that name: its id was {first.tables[n]}"
        for n in here.tables.keys() & first.tables.keys()
        if first.tables[n] != here.tables[n]
    )
    return (*cluster, *sorted(others), *sorted(anew))


def check(first: Whereabouts | None, here: Whereabouts) -> None:
    """Raise WrongWorld when something differs; before the first run nothing can."""
    found = differences(first, here) if first else ()
    if found:
        raise WrongWorld(
            f"WrongWorld: {found[0]}" + (f", and {len(found) - 1} more" if len(found) > 1 else ""),
            "these are not the tables and the cluster that were seen first: nothing is done by them",
            "correct the settings (`editctl config`), or if this is meant: editctl config accept",
        )


def check_plan(saved: Whereabouts, here: Whereabouts) -> None:
    """Raise PlanError when a plan was made in another world than this."""
    found = differences(saved, here)
    if found:
        raise PlanError(
            "the saved plan is of another world",
            "; ".join(found),
            "use the settings it was made with, or make a new one: editctl plan --out FILE",
        )
