"""The agent of a node, as the DaemonSet runs it: the node's own, told by the controller what its pods are held to.

What asks the API is loaded and made when the node's processes are forked: none of them has the client, or the token, in its memory.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from stockade.service.settings import Settings
from stockade.types import StockadeError

if TYPE_CHECKING:
    from stockade.kubernetes.main import Known


def serve(settings: Settings) -> None:
    """Until SIGTERM. Raises StockadeError."""
    from stockade.node.main import serve as hold

    said = settings.configured.kubernetes
    name = _node(said.node)
    if importlib.util.find_spec("kubernetes") is None:
        hint = "pip install 'stockade[kubernetes]'"
        raise StockadeError("this installation cannot ask a cluster's API", hint=hint, code="kubernetes")

    def known() -> Known:
        from stockade.kubernetes.api import Api
        from stockade.kubernetes.main import Known

        return Known(Api(said.kubeconfig), name, said)

    hold(settings, known, said.networks)


def _node(stated: str | None) -> str:
    """Which node this is: NODE_NAME, as the downward API sets it, else the settings. Raises StockadeError."""
    name = os.environ.get("NODE_NAME") or stated
    if not name:
        hint = "set NODE_NAME from spec.nodeName by the downward API, or kubernetes.node in the settings"
        raise StockadeError("which node this is, is not known", hint=hint, code="kubernetes")
    return name
