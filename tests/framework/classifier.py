"""The classifier inside the test's own process, for what is about who asks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stockade.privacy.classify import Classifier
from stockade.privacy.finding import Detector, Finding
from stockade.privacy.serve.client import Client
from stockade.privacy.serve.wire import Hello
from stockade.privacy.settings import Settings


class InProcess(Client):
    """A Client whose classifier has these detectors, and lacks none. It reads a conversation, as the process does."""

    def __init__(self, *detectors: Detector) -> None:
        super().__init__()
        self.hello = Hello(None, None, {}, {})
        self._classifier = Classifier(detectors)

    async def classify(self, texts: Sequence[str], settings: Settings, *, seconds: float, **orders: Any) -> list[list[Finding]]:
        return self._classifier.classify(texts, settings, conversation=True, **orders)
