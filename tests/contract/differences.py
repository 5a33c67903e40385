"""Where an engine differs from what AWS promises: one line a rule. Each is tried, and has to differ still.

A rule that an engine keeps has no line here, so a line that is no longer true fails, and so does a new difference.
"""

from __future__ import annotations

from collections.abc import Mapping

# (engine, rule, or rule[case] when only that case differs): what the engine does instead.
DIFFERENCES: Mapping[tuple[str, str], str] = {}
