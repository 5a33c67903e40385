"""What would be decided later, if until then nobody did anything and the world stayed as it was seen."""

from __future__ import annotations

from dataclasses import replace

from controller.core.model import Millis, Plan, World
from controller.core.plan import compute_plan, needs_second_look
from controller.core.policy import Policy


def forecast(world: World, policy: Policy, at: Millis) -> Plan:
    """Return the plan for this world at a later time; that a second look agrees with the first is taken for granted."""
    plan = compute_plan(world, policy, at)
    if not needs_second_look(plan):
        return plan
    return compute_plan(replace(world, nominated_before=world.nominated_before | plan.nominated), policy, at)
