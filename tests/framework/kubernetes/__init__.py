"""A real Kubernetes node for tests, on this machine: build.sh makes its binaries, cluster.py runs them."""

from framework.kubernetes.cluster import Cluster

__all__ = ["Cluster"]
