"""The detectors that the classifier runs, and which of them could not be loaded."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from stockade.privacy.classify import Classifier
from stockade.privacy.documents import Documents
from stockade.privacy.documents import registry as registered
from stockade.privacy.documents.registry import Registry
from stockade.privacy.finding import Detector
from stockade.privacy.ner import NoProvider, TokenModel, UnusableModel
from stockade.privacy.patterns import Credentials, Patterns
from stockade.privacy.serve.batch import InSegments, Remembering, Together
from stockade.privacy.serve.wire import Hello
from stockade.types import StockadeError

REGISTRY = "registry"
MODEL = "model"  # the layer that tells names, places and what is said of a patient


@dataclass(frozen=True, slots=True)
class Layers:
    """apart: the detectors that no registry changes. beside: as of Classifier."""

    classifier: Classifier
    hello: Hello
    apart: tuple[Detector, ...]
    beside: Executor | None

    def with_registry(self, registry: Registry | str) -> Layers:
        """The same with another registry, or with why there is none. Opens no file."""
        missing = {layer: why for layer, why in self.hello.missing.items() if layer != REGISTRY}
        return _layers(self.apart, registry, self.hello.provider, self.hello.model, missing, self.beside)


def load(threads: int = 2, beside: Executor | None = None) -> Layers:
    """All that are there. A layer that is missing is told: where it is needed on_failure decides, since it did not find nothing."""
    missing: dict[str, str] = {}
    apart: list[Detector] = [Remembering(Patterns())]
    provider = model = None
    try:
        network = TokenModel.load(threads=threads)
    except (UnusableModel, NoProvider, ImportError) as error:
        missing[MODEL] = str(error)[:1024]
    else:
        provider, model = network.provider, network.sha256
        apart.append(Remembering(InSegments(Together(network))))
    registry: Registry | str
    try:
        registry = registered.load()
    except StockadeError as error:
        registry = str(error)
    return _layers(tuple(apart), registry, provider, model, missing, beside)


def _layers(
    apart: tuple[Detector, ...],
    registry: Registry | str,
    provider: str | None,
    model: str | None,
    missing: dict[str, str],
    beside: Executor | None,
) -> Layers:
    if isinstance(registry, str):
        missing = missing | {REGISTRY: registry[:1024]}
        registry = Registry()
    own = (Remembering(Credentials(registry.known_canaries())), Remembering(Documents(registry.fingerprints())))
    classifier = Classifier([*apart, *own], beside)
    return Layers(classifier, Hello(provider, model, classifier.versions, missing), apart, beside)
