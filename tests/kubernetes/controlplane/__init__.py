"""The programs of a Kubernetes control plane: where they are, and how they are built from pinned Go modules."""
