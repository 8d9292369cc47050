"""What the model runs on, and the reason that is given: ONNX Runtime's own."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from stockade.privacy import provider
from stockade.privacy.ner import CPU, PREFERRED, TokenModel

CUDA = PREFERRED[0]


@pytest.fixture(scope="module")
def runs() -> str:
    return TokenModel.load().provider


def test_without_a_device_that_is_the_reason(runs: str, tmp_path: Path) -> None:
    if runs != CPU or CUDA not in onnxruntime.get_available_providers():
        pytest.skip(f"the model runs on {runs}; there are {onnxruntime.get_available_providers()}")
    assert provider.said(tmp_path / "nvidia0") == f"{CPU}: no {tmp_path}/nvidia0 for {CUDA}"


def test_with_a_device_and_without_its_libraries_the_missing_one_is_named(runs: str) -> None:
    if runs != CPU or CUDA not in onnxruntime.get_available_providers():
        pytest.skip(f"the model runs on {runs}; there are {onnxruntime.get_available_providers()}")
    said = provider.said(Path("/dev/null"))
    assert said.startswith(f"{CPU}: {CUDA}: lib") and "cannot open shared object file" in said


def test_an_onnxruntime_without_it_says_so(runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert provider.said() == f"{CPU}: this onnxruntime has no {CUDA}"
