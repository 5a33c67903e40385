"""python -m tests.kubernetes.controlplane: find or build the control plane."""

import sys

from tests.kubernetes.controlplane.build import main

sys.exit(main())
