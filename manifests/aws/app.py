"""What `cdk` runs: the stacks that the context asks for."""

from __future__ import annotations

import sys

from aws_cdk import App

from manifests.aws.settings import ContextError, read
from manifests.aws.stacks import build


def main() -> int:
    """Write the cloud assembly; 1 when the context is wrong."""
    app = App()
    try:
        build(app, read(app.node.try_get_context))
    except ContextError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
