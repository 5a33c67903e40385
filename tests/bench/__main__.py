"""`python -m tests.bench [NAME …] [arguments of the benchmarks]`: all of them, or those that are named."""

from __future__ import annotations

import subprocess
import sys

NAMES = ("quiet", "latency", "storm", "boot")


def main() -> int:
    """Run each benchmark in a process of its own; return the first exit code that is not 0."""
    names = [word for word in sys.argv[1:] if word in NAMES] or NAMES
    rest = [word for word in sys.argv[1:] if word not in NAMES]
    for name in names:
        code = subprocess.run([sys.executable, "-m", f"tests.bench.{name}", *rest], check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
