"""`python -m tests.bench [NAME …] [arguments of the benchmarks]`: all of them, or those that are named."""

from __future__ import annotations

import subprocess
import sys

VIRTUAL = ("quiet", "latency", "storm", "boot")
REAL = ("hints", "kubernetes")
"""In real time: only when they are named."""


def main() -> int:
    """Run each benchmark in a process of its own; return the first exit code that is not 0."""
    known = VIRTUAL + REAL
    names = [word for word in sys.argv[1:] if word in known] or VIRTUAL
    rest = [word for word in sys.argv[1:] if word not in known]
    for name in names:
        code = subprocess.run([sys.executable, "-m", f"tests.bench.{name}", *rest], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
