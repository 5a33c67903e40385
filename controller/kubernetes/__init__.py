"""Kubernetes: the resource that declares and shows containers, and the operator. Only the operator needs kopf."""
