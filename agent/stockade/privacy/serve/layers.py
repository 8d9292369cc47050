"""The detectors that the classifier runs, and which of them could not be loaded."""

from __future__ import annotations

from dataclasses import dataclass

from stockade.privacy.classify import Classifier
from stockade.privacy.documents import Documents
from stockade.privacy.documents import registry as registered
from stockade.privacy.finding import Detector
from stockade.privacy.ner import NoProvider, TokenModel, UnusableModel
from stockade.privacy.patterns import Credentials, Patterns
from stockade.privacy.serve.batch import Remembering, Together
from stockade.privacy.serve.wire import Hello
from stockade.types import StockadeError

MODEL = "model"  # the layer that tells names, places and what is said of a patient


@dataclass(frozen=True, slots=True)
class Layers:
    classifier: Classifier
    hello: Hello


def load(threads: int = 2) -> Layers:
    """All that are there. A layer that is missing is told: where it is needed on_failure decides, since it did not find nothing."""
    missing: dict[str, str] = {}
    try:
        registry = registered.load()
    except StockadeError as error:
        missing["registry"] = str(error)[:1024]
        registry = registered.Registry()
    detectors: list[Detector] = [Patterns(), Credentials(registry.known_canaries()), Documents(registry.fingerprints())]
    provider = model = None
    try:
        network = TokenModel.load(threads=threads)
    except (UnusableModel, NoProvider, ImportError) as error:
        missing[MODEL] = str(error)[:1024]
    else:
        provider, model = network.provider, network.sha256
        detectors.append(Together(network))
    classifier = Classifier([Remembering(detector) for detector in detectors])
    return Layers(classifier, Hello(provider, model, classifier.versions, missing))
