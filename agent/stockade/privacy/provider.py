"""What the classifier's model runs on here, and why on nothing better. Run by doctor, in a process of its own: it loads the model."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from stockade.privacy.ner import CPU, MODEL, PREFERRED, TokenModel


def said(device: Path = Path("/dev/nvidia0")) -> str:
    """`PROVIDER`, and behind a colon why no provider that is preferred to it. Raises UnusableModel, NoProvider."""
    import onnxruntime

    runs = TokenModel.load().provider
    better = PREFERRED[: PREFERRED.index(runs)] if runs in PREFERRED else PREFERRED
    reasons = []
    for name in better:
        if name not in onnxruntime.get_available_providers():
            reasons.append(f"this onnxruntime has no {name}")
        elif not device.exists():
            reasons.append(f"no {device} for {name}")
        else:
            reasons.append(f"{name}: {_refused(name)}")
    return ": ".join((runs, "; ".join(reasons))) if reasons else runs


def _refused(provider: str) -> str:
    """What ONNX Runtime logs when it falls back to the CPU: it raises nothing."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    with tempfile.TemporaryFile() as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            onnxruntime.InferenceSession(str(MODEL / "model.onnx"), providers=[provider, CPU])
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        log.seek(0)
        text = log.read().decode(errors="replace")
    found = re.search(r"with error: (\S+: [^\n]*?)(?:\x1b|\n|$)", text) or re.search(r"\] ([^\n]*?)(?:\x1b|\n|$)", text)
    return found[1].strip() if found else "it could not be started, and ONNX Runtime does not say why"
