"""Weights to ONNX, by hand: small graphs start fast, and int8 tables stay int8 on disk.

tokens grams ids weights -> logits (B, K)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..carried.drawing import Graph, quantise, value
from .fit import Tensors, Trained, tensors_of_copy

LAST_BIASES = ("bag.bias", "out.bias")  # of a linear model, of a branch


def build_graph(trained: Trained, *, int8: bool) -> bytes:
    """The model as ONNX; with `int8`, tables are int8 with one scale a row.

    tokens (B, T), grams (U, G), ids (B, N) int64; weights (B, N) float32, as Featurizer.arrays
    returns   serialised ModelProto whose output is `logits` (B, K) float32
    """
    graph, recipe = Graph(), trained.recipe
    inputs = []
    if recipe.has_bag:
        inputs += [value("ids", ["B", "N"], TensorProto.INT64), value("weights", ["B", "N"])]
    if recipe.has_cnn:
        inputs += [
            value("tokens", ["B", "T"], TensorProto.INT64),
            value("grams", ["U", "G"], TensorProto.INT64),
        ]
    if recipe.is_learned:
        branches = _networks(graph, trained, int8)
    else:
        branches = [_bag(graph, trained.tensors, "", int8)]
    last = branches[0] if len(branches) == 1 else graph.op("Sum", *branches)
    if recipe.copies > 1:
        share = graph.weight("share", np.array([1 / recipe.copies], np.float32))
        last = graph.op("Mul", last, share)
    return graph.drawn(inputs, [graph.output("logits", last, ["B", n_labels(trained)])])


def n_labels(trained: Trained) -> int:
    """Labels that the model tells apart: K."""
    last = (value for name, value in trained.tensors.items() if name.endswith(LAST_BIASES))
    return len(next(last))


def _look_up(
    graph: Graph, name: str, table: NDArray[Any], ids: str, weights: str, int8: bool
) -> str:
    """Weighted sum of rows: ids, weights (X, N) -> (X, 1, D)."""
    if int8:
        rows, scale = quantise(table)
        scales = graph.op("Gather", graph.weight(name + ".scale", scale[:, 0]), ids)
        weights = graph.op("Mul", weights, scales)
        found = graph.op("Gather", graph.weight(name, rows), ids)
        found = graph.op("Cast", found, to=TensorProto.FLOAT)
    else:
        found = graph.op("Gather", graph.weight(name, table), ids)
    return graph.op("MatMul", graph.op("Unsqueeze", weights, graph.ints(1)), found)


def _networks(graph: Graph, trained: Trained, int8: bool) -> list[str]:
    """The logits of every branch of every copy."""
    recipe, branches = trained.recipe, []
    for copy in range(recipe.copies):
        tensors = tensors_of_copy(trained, copy)
        if recipe.has_bag:
            branches.append(_bag(graph, tensors, f"{copy}.", int8))
        if recipe.has_cnn:
            branches.append(_cnn(graph, tensors, f"{copy}.", recipe.max_width, int8))
    return branches


def _bag(graph: Graph, tensors: Tensors, prefix: str, int8: bool) -> str:
    table = tensors["bag.table"]
    summed = _look_up(graph, prefix + "bag.table", table, "ids", "weights", int8)
    summed = graph.op("Squeeze", summed, graph.ints(1))
    if "bag.bias" in tensors:  # linear: the table's columns are the labels
        return graph.op("Add", summed, graph.weight("bag.bias", tensors["bag.bias"]))
    if "bag.hidden.weight" in tensors:
        summed = graph.op("Relu", _linear(graph, tensors, prefix, "bag.hidden", summed))
    return _linear(graph, tensors, prefix, "bag.out", summed)


def _cnn(graph: Graph, tensors: Tensors, prefix: str, max_width: int, int8: bool) -> str:
    table = tensors["cnn.table"].copy()
    table[0] = 0.0  # row 0 is padding
    weights = _gram_weights(graph)
    vectors = _look_up(graph, prefix + "cnn.table", table, "grams", weights, int8)  # (U, 1, D)
    vectors = graph.op("Squeeze", vectors, graph.ints(1))
    x = graph.op("Gather", vectors, "tokens")  # (B, T, D); word 0 is the zero vector
    # rows of zeros behind the text, so that windows may reach over its end
    x = graph.op("Pad", x, graph.ints(0, 0, 0, 0, max_width - 1, 0))
    length = graph.op("Shape", "tokens", start=1, end=2)
    absent = graph.op("Cast", graph.op("Equal", "tokens", graph.ints(0)), to=TensorProto.FLOAT)
    far = graph.weight("far", np.array([-1e4], np.float32))
    absent = graph.op("Unsqueeze", graph.op("Mul", absent, far), graph.ints(2))
    pooled = []
    window = ""
    for w in range(max_width):
        end = length if w == 0 else graph.op("Add", length, graph.ints(w))
        part = graph.op("Slice", x, graph.ints(w), end, graph.ints(1))
        window = part if w == 0 else graph.op("Concat", window, part, axis=2)
        y = graph.op("Add", _linear(graph, tensors, prefix, f"cnn.convs.{w}", window), absent)
        pooled.append(graph.op("ReduceMax", y, axes=[1], keepdims=0))
    joined = pooled[0] if max_width == 1 else graph.op("Concat", *pooled, axis=1)
    return _linear(graph, tensors, prefix, "cnn.out", graph.op("Relu", joined))


def _gram_weights(graph: Graph) -> str:
    """1 / sqrt(n) for each of a word's n rows, 0 for padding; (U, G)."""
    present = graph.op("Cast", graph.op("Greater", "grams", graph.ints(0)), to=TensorProto.FLOAT)
    count = graph.op("ReduceSum", present, graph.ints(1), keepdims=1)
    one = graph.weight("one", np.array([1.0], np.float32))
    return graph.op("Div", present, graph.op("Sqrt", graph.op("Max", count, one)))


def _linear(graph: Graph, tensors: Tensors, prefix: str, name: str, x: str) -> str:
    weight = np.ascontiguousarray(tensors[name + ".weight"].T)
    product = graph.op("MatMul", x, graph.weight(prefix + name + ".weight", weight))
    bias = graph.weight(prefix + name + ".bias", tensors[name + ".bias"])
    return graph.op("Add", product, bias)
