"""One round: observe, plan, apply, report."""
