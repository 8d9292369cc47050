"""Policies of NVIDIA OpenShell and NemoClaw, read and carried over into ours: never looser than they were."""

from __future__ import annotations

from stockade.policy.making.openshell.carrying import Imported, import_file
from stockade.policy.making.openshell.reading import Loss

__all__ = ["Imported", "Loss", "import_file"]
