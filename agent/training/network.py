"""The network: BERT's encoder as MiniLM-L6 has it, an embedding of the words' shapes, and one linear layer over the labels."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, INNER, POSITIONS, VOCABULARY = 384, 12, 6, 1536, 512, 30522


class Layer(nn.Module):
    """One layer of the encoder, normalised after each half, as in BERT."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-12), nn.LayerNorm(WIDTH, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.norm1(x + self.drop(self.out(attended.transpose(1, 2).reshape(rows, length, WIDTH))))
        return self.norm2(x + self.drop(self.down(functional.gelu(self.up(x)))))


class Network(nn.Module):
    """ids, shapes, positions: (rows, length); attention: (rows, length), 1 where there is a token. Gives logits (rows, length, labels)."""

    def __init__(self, shapes: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.words, self.places, self.shapes = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH), nn.Embedding(shapes, WIDTH)
        self.norm, self.drop = nn.LayerNorm(WIDTH, eps=1e-12), nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        self.head = nn.Linear(WIDTH, labels)
        nn.init.normal_(self.shapes.weight, std=0.01)

    def forward(self, ids: Tensor, shapes: Tensor, positions: Tensor, attention: Tensor) -> Tensor:
        x = self.drop(self.norm(self.words(ids) + self.places(positions) + self.shapes(shapes)))
        bias = ((1.0 - attention.to(x.dtype)) * -10000.0)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(self.drop(x))

    def start_from(self, base: Path) -> None:
        """Take the weights of a BERT in a safetensors file; the shapes and the head stay as they were made."""
        old = load_file(base)
        old = {name.removeprefix("bert."): value for name, value in old.items()}
        new = {
            "words.weight": old["embeddings.word_embeddings.weight"],
            "places.weight": old["embeddings.position_embeddings.weight"] + old["embeddings.token_type_embeddings.weight"][0],
            "norm.weight": old["embeddings.LayerNorm.weight"],
            "norm.bias": old["embeddings.LayerNorm.bias"],
        }
        parts = {
            "out": "attention.output.dense",
            "up": "intermediate.dense",
            "down": "output.dense",
            "norm1": "attention.output.LayerNorm",
            "norm2": "output.LayerNorm",
        }
        for number in range(LAYERS):
            before = f"encoder.layer.{number}."
            for kind in ("weight", "bias"):
                new[f"layers.{number}.qkv.{kind}"] = torch.cat(
                    [old[f"{before}attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
                )
                for ours, theirs in parts.items():
                    new[f"layers.{number}.{ours}.{kind}"] = old[f"{before}{theirs}.{kind}"]
        left, unknown = self.load_state_dict(new, strict=False)
        if unknown or set(left) != {"shapes.weight", "head.weight", "head.bias"}:
            raise ValueError(f"{base}: not the weights of MiniLM-L6: missing {left}, unknown {unknown}")
