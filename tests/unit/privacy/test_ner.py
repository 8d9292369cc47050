"""The model that ships: what it finds, where exactly, in how long a text, on which device; and files that are not its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stockade.privacy.ner import MODEL, NoProvider, TokenModel, UnusableModel, _trim, choose, windows

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture(scope="module")
def model() -> TokenModel:
    return TokenModel.load(providers=[CPU])


def found(model: TokenModel, text: str) -> set[tuple[str, str]]:
    return {(text[f.start : f.end], f.category) for f in model.find([text])[0]}


def test_a_letter(model: TokenModel) -> None:
    text = "Write a letter to John Smith, 12 Baker Street, London about the overdue invoice."
    assert found(model, text) == {("John Smith", "pii.person"), ("12 Baker Street, London", "pii.location")}


def test_a_patient_and_a_physician_are_told_apart(model: TokenModel) -> None:
    assert ("Maria Gonzalez", "phi.identifier") in found(model, "Is metformin safe for Maria Gonzalez, 67, MRN 4429101, with CKD stage 3?")
    assert ("Chen", "pii.staff") in found(model, "Dr. Chen is on call on Friday in Cardiology.")


@pytest.mark.parametrize(
    "text",
    ["What are the side effects of metformin in adults?", "How does Parkinson's disease progress?", "Summarize in SOAP format", "", " \n"],
)
def test_what_is_about_nobody_is_left_alone(model: TokenModel, text: str) -> None:
    assert found(model, text) == set()


def test_places_are_counted_in_characters_of_the_text_as_it_is(model: TokenModel) -> None:
    text = "🙂🙂 e\u0301te\u0301 — My name is José Müller-Łukasz and I live in Kraków."
    told = found(model, text)
    assert ("José Müller-Łukasz", "pii.person") in told
    assert ("Kraków", "pii.location") in told


def test_a_name_is_found_wherever_it_stands_in_a_long_document(model: TokenModel) -> None:
    filler = "The quarterly figures were discussed and the committee took note of them. "
    for before in (0, 25, 60):
        text = filler * before + "Please call Katarzyna Wiśniewska before noon. " + filler * 20
        assert "Katarzyna Wiśniewska" in {text[f.start : f.end] for f in model.find([text])[0]}, before


def test_texts_in_a_batch_are_read_as_if_alone(model: TokenModel) -> None:
    texts = ["My name is Ahmed Diallo.", "", "No one here.", "Write to Olga Petrova in Sofia. " * 60]
    together = [[(f.start, f.end, f.category) for f in one] for one in model.find(texts)]
    assert together == [[(f.start, f.end, f.category) for f in model.find([text])[0]] for text in texts]
    assert together[0] and not together[1]


def test_a_score_is_below_that_of_a_validated_pattern(model: TokenModel) -> None:
    findings = model.find(["Send it to John Smith in London."])[0]
    assert findings and all(0 < f.score < 1 for f in findings)
    assert model.provider == CPU and model.sha256[:12] in model.version


def test_a_score_of_one_half_is_what_just_counts(tmp_path: Path) -> None:
    text = "Send it to John Smith in London."
    scores = []
    for least in (0.05, 0.4, 0.9, 0.999999):
        copy = tmp_path / str(least)
        shutil.copytree(MODEL, copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["thresholds"] = dict.fromkeys(manifest["labels"][1:], least)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        findings = TokenModel.load(copy, providers=[CPU]).find([text])[0]
        assert all(f.score >= 0.5 for f in findings)
        scores.append(sum(f.score for f in findings))
    assert scores[0] >= scores[1] > scores[3] and scores[2] >= scores[3]


def test_small_words_at_the_edge_are_no_part_of_a_thing(model: TokenModel) -> None:
    def kept(text: str) -> str:
        words = model.words(text)
        first, last = _trim(text, words, 0, len(words))
        return text[words[first].start : words[last - 1].end]

    assert kept("in Bad Homburg and") == "Bad Homburg"
    assert kept("von Lena Maria, ") == "Lena Maria"
    assert kept("University of Bath") == "University of Bath"
    assert kept("In Flanders") == "In Flanders"
    assert kept("is") == "is"


def test_windows_cover_every_word_once() -> None:
    for sizes in ([1] * 1000, [3] * 500, [1, 16] * 200, [9]):
        owned = [n for w in windows(0, sizes, 64, 16) for n in range(w.owned, w.until)]
        assert owned == list(range(len(sizes)))
        assert all(w.tokens == sum(sizes[w.first : w.last]) <= 62 for w in windows(0, sizes, 64, 16))
    assert windows(0, [], 64, 16) == []


def test_sums_and_norms_are_not_fused_wherever_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The fused one takes the CPU four times as long, and a machine without a GPU gets there by asking for one."""
    import onnxruntime

    def profiled() -> onnxruntime.SessionOptions:
        options = made()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "run")
        return options

    made = onnxruntime.SessionOptions
    monkeypatch.setattr(onnxruntime, "SessionOptions", profiled)
    model = TokenModel.load()
    model.find(["Call John Smith."])
    model._session.end_profiling()  # type: ignore[attr-defined]
    events = [event for path in tmp_path.iterdir() for event in json.loads(path.read_text())]
    kinds = {event.get("args", {}).get("op_name") for event in events}
    assert "LayerNormalization" in kinds
    assert "SkipLayerNormalization" not in kinds


def test_the_device() -> None:
    assert choose([CPU, CUDA, TENSORRT]) == [CUDA, CPU]
    assert choose([CPU]) == [CPU]
    assert choose([CPU, CUDA, TENSORRT], [TENSORRT, CUDA]) == [TENSORRT, CUDA]
    for available, wanted in (([CPU], [CUDA]), ([], None), ([CPU], [])):
        with pytest.raises(NoProvider):
            choose(available, wanted)


@pytest.mark.parametrize("name", ["model.onnx", "vocab.txt"])
def test_a_file_that_is_not_the_manifests_is_not_loaded(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(UnusableModel, match="is not the file of the manifest") as caught:
        TokenModel.load(copy, providers=[CPU])
    assert caught.value.path == copy / name


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"kinds": []},
        {"labels": ["O", "pii.nobody"]},
        {"labels": []},
        {"window": 9000},
        {"files": {}},
        {"files": 3},
        {"thresholds": {"pii.age": 0}},
        {"thresholds": {"pii.age": 1.5}},
    ],
)
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | change
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnusableModel):
        TokenModel.load(copy, providers=[CPU])


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnusableModel, match=r"manifest\.json: cannot be read"):
        TokenModel.load(tmp_path, providers=[CPU])
