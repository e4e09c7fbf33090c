"""Weights to ONNX, by hand: one graph scores whole texts and writes on, symbol by symbol.

tokens targets hints known keys values -> bits (B, T), last (B, V), and the state after them

Attention is computed in blocks of the window's length, each over its own block and the one
before, so that a long text takes memory in proportion to its length; a single symbol is a block
of one. Keys are kept as they are and turned by their place in the block: only distances count.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..carried import drawing
from .features import N_SYMBOLS
from .fit import Trained
from .recipe import WriterRecipe

EPS = 1e-5
BASE = 10_000.0
FAR = -1e9  # added to the score of what is not to be seen


class Graph(drawing.Graph):
    """With the nodes that attention needs again and again."""

    def number(self, value: float) -> str:
        return self.weight(f"f_{value!r}", np.array(value, np.float32))

    def cut(self, x: str, start: str, end: str, axis: int) -> str:
        return self.op("Slice", x, start, end, self.ints(axis))

    def shaped(self, x: str, *sizes: str) -> str:
        """Reshape to sizes that are names of one-element tensors; 0 keeps a size."""
        return self.op("Reshape", x, self.op("Concat", *sizes, axis=0))


def build_graph(trained: Trained, *, int8: bool) -> bytes:
    """The model as ONNX; with `int8`, matrices are int8 with one scale a row.

    tokens targets (B, T) int64; known (B, W), keys values (L, B, W, C) float32, as Featurizer has
    returns   serialised ModelProto with outputs bits, last, known_after, keys_after, values_after
    """
    graph, recipe = Graph(int8), trained.recipe
    blocks = _Blocks(graph, trained)
    x = _look_up(graph, trained.tensors["embedding.tokens.weight"])
    keys, values = [], []
    for layer in range(recipe.layers):
        name = f"layers.{layer}."
        normed = _norm(graph, trained, name + "mixer_norm.gain", x)
        mixed, k, v = blocks.attend(name + "mixer.", layer, normed)
        x = graph.op("Add", x, mixed)
        x = graph.op("Add", x, _gated(graph, trained, name, x))
        keys.append(graph.op("Unsqueeze", k, graph.ints(0)))
        values.append(graph.op("Unsqueeze", v, graph.ints(0)))
    x = _norm(graph, trained, "final_norm.gain", x)
    logits = _product(graph, trained, "head.logits.weight", x)
    if recipe.has_counts:
        logits = graph.op("Add", logits, "hints")
    bits = _bits(graph, logits)
    last = graph.op("Squeeze", graph.cut(logits, graph.ints(-1), _far(graph), 1), graph.ints(1))
    found = [bits, last, blocks.known_after, *(graph.op("Concat", *s, axis=0) for s in
                                               (keys, values))]  # fmt: skip
    return _model(graph, found, recipe)


class _Blocks:
    """What all layers share: sizes, the mask, the turns; and attention over blocks."""

    def __init__(self, graph: Graph, trained: Trained) -> None:
        self.graph, self.trained, recipe = graph, trained, trained.recipe
        W = self.W = recipe.window
        self.H, self.D = recipe.heads, recipe.width // recipe.heads
        self.T = graph.op("Shape", "tokens", start=1, end=2)
        self.b = graph.op("Min", self.T, graph.ints(W))  # of a block
        more = graph.op("Sub", graph.op("Add", self.T, self.b), graph.ints(1))
        self.n = graph.op("Div", more, self.b)  # blocks
        self.spare = graph.op("Sub", graph.op("Mul", self.n, self.b), self.T)
        self.span = graph.op("Add", self.b, graph.ints(W))  # keys that a block sees
        self.known_after, self.mask = self._mask()
        self.turn_q, self.turn_k = self._turns()

    def _mask(self) -> tuple[str, str]:
        """The state's `known` after these tokens, and what is added to scores: (B, n, 1, b, S)."""
        g, W = self.graph, self.W
        ones = g.op("Cast", g.op("GreaterOrEqual", "tokens", g.ints(0)), to=TensorProto.FLOAT)
        after = g.cut(g.op("Concat", "known", ones, axis=1), g.ints(-W), _far(g), 1)
        seen = self._windows("known", ones, [])
        unknown = g.op("Mul", g.op("Sub", seen, g.number(1.0)), g.number(-FAR))
        unknown = g.op("Unsqueeze", unknown, g.ints(2, 3))
        ages = W + np.arange(W)[:, None] - np.arange(2 * W)
        table = np.where((ages >= 0) & (ages < W), 0, FAR).astype(np.float32)
        rows = g.cut(g.weight("ages", table), g.ints(0), self.b, 0)
        return after, g.op("Add", unknown, g.cut(rows, g.ints(0), self.span, 1))

    def _turns(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Cosines and signed sines for the queries and for the keys of a block."""
        g, W, D = self.graph, self.W, self.D
        angles = np.outer(np.arange(2 * W), BASE ** (-np.arange(0, D, 2) / D))
        cos, sin = np.tile(np.cos(angles), 2), np.tile(np.sin(angles), 2)
        sin[:, : D // 2] *= -1
        tables = [g.weight(n, t.astype(np.float32)) for n, t in (("cos", cos), ("sin", sin))]
        q = [g.cut(table, g.ints(W), self.span, 0) for table in tables]
        k = [g.cut(table, g.ints(0), self.span, 0) for table in tables]
        return (q[0], q[1]), (k[0], k[1])

    def attend(self, name: str, layer: int, x: str) -> tuple[str, str, str]:
        """What the attention adds (B, T, C), and keys and values after it (B, W, C)."""
        g, far = self.graph, _far(self.graph)
        q, k, v = (_product(g, self.trained, f"{name}{part}.weight", x) for part in "qkv")
        q, k = (self._unit(z, f"{name}{part}_gain") for z, part in ((q, "q"), (k, "k")))
        past = [
            g.op("Squeeze", g.cut(s, g.ints(layer), g.ints(layer + 1), 0), g.ints(0))
            for s in ("keys", "values")
        ]
        after = [
            g.cut(g.op("Concat", p, z, axis=1), g.ints(-self.W), far, 1)
            for p, z in zip(past, (k, v), strict=True)
        ]
        heads = [g.ints(self.H), g.ints(self.D)]
        q = g.shaped(self._padded(q, 1), g.ints(0), self.n, self.b, *heads)
        k, v = (
            g.shaped(self._windows(p, z, [g.ints(self.H * self.D)]), g.ints(0), self.n, self.span,
                     *heads)
            for p, z in zip(past, (k, v), strict=True)
        )  # fmt: skip
        q, k, v = (g.op("Transpose", z, perm=[0, 1, 3, 2, 4]) for z in (q, k, v))
        q, k = self._turned(q, self.turn_q), self._turned(k, self.turn_k)
        scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 2, 4, 3]))
        scores = g.op("Mul", scores, g.number(self.D**-0.5))
        weights = g.op("Softmax", g.op("Add", scores, self.mask), axis=-1)
        y = g.op("Transpose", g.op("MatMul", weights, v), perm=[0, 1, 3, 2, 4])
        y = g.op("Reshape", y, g.ints(0, -1, self.H * self.D))
        y = g.cut(y, g.ints(0), self.T, 1)
        return _product(g, self.trained, name + "out.weight", y), after[0], after[1]

    def _windows(self, past: str, now: str, rest: list[str]) -> str:
        """(B, W, ...) and (B, T, ...) -> (B, n, W + b, ...): each block and what lies before it."""
        g = self.graph
        whole = g.op("Concat", past, self._padded(now, len(rest)), axis=1)
        end = g.op("Mul", self.n, g.ints(self.W))
        before = g.shaped(g.cut(whole, g.ints(0), end, 1), g.ints(0), self.n, g.ints(self.W), *rest)
        own = g.cut(whole, g.ints(self.W), _far(g), 1)
        own = g.shaped(own, g.ints(0), self.n, self.b, *rest)
        return g.op("Concat", before, own, axis=2)

    def _padded(self, x: str, n_rest: int) -> str:
        """(B, T, ...) with zeros behind, to whole blocks."""
        g = self.graph
        none = [g.ints(*[0] * n_rest)] if n_rest else []
        pads = g.op("Concat", g.ints(*[0] * (3 + n_rest)), self.spare, *none, axis=0)
        return g.op("Pad", x, pads)

    def _unit(self, x: str, gain: str) -> str:
        """(B, T, C): each head to unit mean square, times its gain."""
        g = self.graph
        heads = g.op("Reshape", x, g.ints(0, 0, self.H, self.D))
        return g.op("Reshape", _norm(g, self.trained, gain, heads), g.ints(0, 0, self.H * self.D))

    def _turned(self, x: str, turn: tuple[str, str]) -> str:
        g, half = self.graph, self.D // 2
        one = g.cut(x, g.ints(0), g.ints(half), 4)
        other = g.cut(x, g.ints(half), g.ints(self.D), 4)
        swapped = g.op("Mul", g.op("Concat", other, one, axis=4), turn[1])
        return g.op("Add", g.op("Mul", x, turn[0]), swapped)


def _far(graph: Graph) -> str:
    return graph.ints(np.iinfo(np.int64).max)


def _norm(graph: Graph, trained: Trained, gain: str, x: str) -> str:
    mean = graph.op("ReduceMean", graph.op("Mul", x, x), axes=[-1], keepdims=1)
    root = graph.op("Sqrt", graph.op("Add", mean, graph.number(EPS)))
    return graph.op("Mul", graph.op("Div", x, root), graph.weight(gain, trained.tensors[gain]))


def _product(graph: Graph, trained: Trained, name: str, x: str) -> str:
    matrix = trained.tensors[name]
    if not graph.int8:
        return graph.op("MatMul", x, graph.weight(name, np.ascontiguousarray(matrix.T)))
    rows, scale = drawing.quantise(matrix)
    found = graph.op("Cast", graph.weight(name, rows), to=TensorProto.FLOAT)
    found = graph.op("Mul", found, graph.weight(name + ".scale", scale))
    return graph.op("MatMul", x, graph.op("Transpose", found, perm=[1, 0]))


def _look_up(graph: Graph, table: NDArray[np.float32]) -> str:
    if not graph.int8:
        return graph.op("Gather", graph.weight("table", table), "tokens")
    rows, scale = drawing.quantise(table)
    found = graph.op("Gather", graph.weight("table", rows), "tokens")
    scales = graph.op("Gather", graph.weight("table.scale", scale), "tokens")
    return graph.op("Mul", graph.op("Cast", found, to=TensorProto.FLOAT), scales)


def _gated(graph: Graph, trained: Trained, name: str, x: str) -> str:
    normed = _norm(graph, trained, name + "channel_norm.gain", x)
    gate, up = (
        _product(graph, trained, f"{name}channel.{part}.weight", normed) for part in ("gate", "up")
    )
    open_ = graph.op("Mul", gate, graph.op("Sigmoid", gate))
    both = graph.op("Mul", open_, up)
    return _product(graph, trained, name + "channel.out.weight", both)


def _bits(graph: Graph, logits: str) -> str:
    """(B, T): what each target costs."""
    nats = graph.op("LogSoftmax", logits, axis=-1)
    wanted = graph.op("Unsqueeze", "targets", graph.ints(2))
    own = graph.op("Squeeze", graph.op("GatherElements", nats, wanted, axis=2), graph.ints(2))
    return graph.op("Mul", own, graph.number(-1 / math.log(2)))


def _model(graph: Graph, found: list[str], recipe: WriterRecipe) -> bytes:
    L, W, C = recipe.layers, recipe.window, recipe.width
    whole: list[str | int] = ["B", "T"]
    known: list[str | int] = ["B", W]
    past: list[str | int] = [L, "B", W, C]
    inputs = [
        drawing.value("tokens", whole, TensorProto.INT64),
        drawing.value("targets", whole, TensorProto.INT64),
        *[drawing.value("hints", [*whole, N_SYMBOLS])][: recipe.has_counts],
        *(drawing.value(*pair) for pair in (("known", known), ("keys", past), ("values", past))),
    ]
    shapes: tuple[tuple[str, list[str | int]], ...] = (
        ("bits", whole), ("last", ["B", N_SYMBOLS]), ("known_after", known),
        ("keys_after", past), ("values_after", past),
    )  # fmt: skip
    named = zip(shapes, found, strict=True)
    outputs = [graph.output(name, node, shape) for (name, shape), node in named]
    return graph.drawn(inputs, outputs)
