"""Weights to ONNX, by hand: small graphs start fast, and int8 weights stay int8 on disk.

clues tokens grams flags lengths -> emissions (B, T, K); the chain stays outside, see runner.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from ..carried.drawing import Graph, quantise, value
from .fit import Tensors, Trained
from .recipe import TagRecipe


def build_graph(trained: Trained, *, int8: bool) -> bytes:
    """The model as ONNX; with `int8`, tables and matrices are int8 with one scale a row.

    clues (B, T, N), tokens (B, T), grams (U, G) int64; flags (B, T, F) float32;
    lengths (B,) int32, none of them 0; those that the recipe reads, as Featurizer.arrays
    returns   serialised ModelProto whose output is `emissions` (B, T, K) float32
    """
    graph, recipe = Graph(int8), trained.recipe
    scores = []
    for expert, share in recipe.experts.items():
        tensors, prefix = trained.of(expert), f"{expert}."
        if expert == "linear":
            found = _linear(graph, tensors, prefix)
        else:
            found = _network(graph, tensors, prefix, recipe.family)
        part = graph.weight(prefix + "share", np.array([share], np.float32))
        scores.append(graph.op("Mul", found, part))
    last = graph.op("Sum", *scores)
    output = graph.output("emissions", last, ["B", "T", 1 + 2 * len(trained.names)])
    return graph.drawn(_inputs(recipe, trained.featurizer.n_flags), [output])


def _linear(graph: Graph, tensors: Tensors, prefix: str) -> str:
    """(B, T, K): the sum of the rows of each place's clues."""
    table = tensors["table"].copy()
    table[0] = 0.0  # row 0 is padding
    if graph.int8:  # only the rows that are read become float32
        rows, scale = quantise(table)
        scales = graph.op("Gather", graph.weight(prefix + "clues.scale", scale[:, 0]), "clues")
        found = graph.op("Gather", graph.weight(prefix + "clues", rows), "clues")
        found = graph.op("Cast", found, to=TensorProto.FLOAT)
        summed = graph.op("MatMul", graph.op("Unsqueeze", scales, graph.ints(2)), found)
        return graph.op("Squeeze", summed, graph.ints(2))
    found = graph.op("Gather", graph.weight(prefix + "clues", table), "clues")
    return graph.op("ReduceSum", found, graph.ints(2), keepdims=0)


def _network(graph: Graph, tensors: Tensors, prefix: str, family: str) -> str:
    read = _cnn if family == "cnn" else _lstm
    x = read(graph, tensors, prefix, _vectors(graph, tensors, prefix))
    return _layer(graph, tensors, prefix, "out", x)


def _vectors(graph: Graph, tensors: Tensors, prefix: str) -> str:
    """(B, T, D): the weighted sum of each word's rows, and what its flags add."""
    table = tensors["table"].copy()
    table[0] = 0.0  # row 0 is padding
    weights = _gram_weights(graph)
    if graph.int8:  # only the rows that are read become float32
        rows, scale = quantise(table)
        scales = graph.op("Gather", graph.weight(prefix + "scale", scale[:, 0]), "grams")
        weights = graph.op("Mul", weights, scales)
        found = graph.op("Gather", graph.weight(prefix + "table", rows), "grams")
        found = graph.op("Cast", found, to=TensorProto.FLOAT)
    else:
        found = graph.op("Gather", graph.weight(prefix + "table", table), "grams")
    summed = graph.op("MatMul", graph.op("Unsqueeze", weights, graph.ints(1)), found)
    x = graph.op("Gather", graph.op("Squeeze", summed, graph.ints(1)), "tokens")
    if "flags.weight" not in tensors:
        return x
    return graph.op("Add", x, _product(graph, tensors, prefix, "flags", "flags"))


def _gram_weights(graph: Graph) -> str:
    """1 / sqrt(n) for each of a word's n rows, 0 for padding; (U, G)."""
    present = graph.op("Cast", graph.op("Greater", "grams", graph.ints(0)), to=TensorProto.FLOAT)
    count = graph.op("ReduceSum", present, graph.ints(1), keepdims=1)
    one = graph.weight("one", np.array([1.0], np.float32))
    return graph.op("Div", present, graph.op("Sqrt", graph.op("Max", count, one)))


def _lstm(graph: Graph, tensors: Tensors, prefix: str, x: str) -> str:
    """(B, T, D) -> (B, T, 2W); ONNX wants time first, and the gates in another order."""
    width = tensors["reader.ahead.weight_hh_l0"].shape[1]
    found = {}
    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        both = [tensors[f"reader.{way}.{part}_l0"] for way in ("ahead", "back")]
        found[part] = np.stack([_gates(value) for value in both])
    bias = np.concatenate([found["bias_ih"], found["bias_hh"]], 1)
    time_first = graph.op("Transpose", x, perm=[1, 0, 2])
    y = graph.op(
        "LSTM",
        time_first,
        graph.matrix(prefix + "lstm.w", found["weight_ih"]),
        graph.matrix(prefix + "lstm.r", found["weight_hh"]),
        graph.weight(prefix + "lstm.b", bias),
        "lengths",
        hidden_size=width,
        direction="bidirectional",
    )  # (T, 2, B, W)
    y = graph.op("Transpose", y, perm=[2, 0, 1, 3])
    return graph.op("Reshape", y, graph.ints(0, 0, 2 * width))


def _gates(value: NDArray[Any]) -> NDArray[Any]:
    """torch has input, forget, cell, output; ONNX input, output, forget, cell."""
    i, f, c, o = np.split(value, 4)
    return np.concatenate([i, o, f, c])


def _cnn(graph: Graph, tensors: Tensors, prefix: str, x: str) -> str:
    """(B, T, D) -> (B, T, W), zero past a text's length after every layer."""
    inside = graph.op("Cast", graph.op("Greater", "tokens", graph.ints(0)), to=TensorProto.FLOAT)
    inside = graph.op("Unsqueeze", inside, graph.ints(2))
    x = graph.op("Mul", _layer(graph, tensors, prefix, "reader.into", x), inside)
    n_layers = sum(name.endswith(".bias") and ".layers." in name for name in tensors)
    far = graph.ints(np.iinfo(np.int64).max)
    for layer in range(n_layers):
        padded = graph.op("Pad", x, graph.ints(0, 1, 0, 0, 1, 0))
        before = graph.op("Slice", padded, graph.ints(0), graph.ints(-2), graph.ints(1))
        after = graph.op("Slice", padded, graph.ints(2), far, graph.ints(1))
        window = graph.op("Concat", before, x, after, axis=2)
        both = _layer(graph, tensors, prefix, f"reader.layers.{layer}", window)
        value, gate = graph.ops("Split", both, n=2, axis=2)
        gated = graph.op("Mul", graph.op("Tanh", value), graph.op("Sigmoid", gate))
        x = graph.op("Mul", graph.op("Add", x, gated), inside)
    return x


def _product(graph: Graph, tensors: Tensors, prefix: str, name: str, x: str) -> str:
    weight = graph.matrix(prefix + name + ".weight", tensors[name + ".weight"])
    return graph.op("MatMul", x, graph.op("Transpose", weight, perm=[1, 0]))


def _layer(graph: Graph, tensors: Tensors, prefix: str, name: str, x: str) -> str:
    product = _product(graph, tensors, prefix, name, x)
    return graph.op("Add", product, graph.weight(prefix + name + ".bias", tensors[name + ".bias"]))


def _inputs(recipe: TagRecipe, n_flags: int) -> list[onnx.ValueInfoProto]:
    inputs = []
    if recipe.has_clues:
        inputs.append(value("clues", ["B", "T", "N"], TensorProto.INT64))
    if recipe.has_reader:
        inputs += [
            value("tokens", ["B", "T"], TensorProto.INT64),
            value("grams", ["U", "G"], TensorProto.INT64),
        ]
    if recipe.has_reader and n_flags:
        inputs.append(value("flags", ["B", "T", n_flags]))
    if recipe.family in ("lstm", "dual"):
        inputs.append(value("lengths", ["B"], TensorProto.INT32))
    return inputs
