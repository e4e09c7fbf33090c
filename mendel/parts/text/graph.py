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
from .recipe import EPS, FAR, HEAD, Recipe

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
            branches.append(_cnn(graph, tensors, f"{copy}.", recipe, int8))
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


def _cnn(graph: Graph, tensors: Tensors, prefix: str, recipe: Recipe, int8: bool) -> str:
    max_width = recipe.max_width
    table = tensors["cnn.table"].copy()
    table[0] = 0.0  # row 0 is padding
    weights = _gram_weights(graph)
    vectors = _look_up(graph, prefix + "cnn.table", table, "grams", weights, int8)  # (U, 1, D)
    vectors = graph.op("Squeeze", vectors, graph.ints(1))
    x = graph.op("Gather", vectors, "tokens")  # (B, T, D); word 0 is the zero vector
    length = graph.op("Shape", "tokens", start=1, end=2)
    absent = graph.op("Cast", graph.op("Equal", "tokens", graph.ints(0)), to=TensorProto.FLOAT)
    far = graph.weight("far", np.array([FAR], np.float32))
    absent = graph.op("Unsqueeze", graph.op("Mul", absent, far), graph.ints(2))
    if recipe.n_mixed:
        x = _mixed(graph, tensors, prefix, recipe, x, absent)
    # rows of zeros behind the text, so that windows may reach over its end
    x = graph.op("Pad", x, graph.ints(0, 0, 0, 0, max_width - 1, 0))
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


def _mixed(graph: Graph, tensors: Tensors, prefix: str, recipe: Recipe, x: str, absent: str) -> str:
    """The blocks of a mixer: x (B, T, D), absent (B, T, 1) -> (B, T, D)."""
    hidden = graph.op("Unsqueeze", graph.op("Transpose", absent, perm=[0, 2, 1]), graph.ints(1))
    back = _back(graph)
    for layer in range(recipe.n_mixed):
        name = f"cnn.blocks.{layer}."
        near = graph.op("Add", _near(graph, tensors, prefix, name + "mixing.slopes", back), hidden)
        taken = _taken(graph, tensors, prefix, name + "mixing.", recipe.mixing, x, near)
        x = graph.op("Add", x, taken)
        y = _unit(graph, x)
        gate = _product(graph, tensors, prefix, name + "gate", y)
        gate = graph.op("Mul", gate, graph.op("Sigmoid", gate))
        both = graph.op("Mul", gate, _product(graph, tensors, prefix, name + "up", y))
        x = graph.op("Add", x, _product(graph, tensors, prefix, name + "down", both))
    present = graph.op("Cast", graph.op("Equal", absent, _number(graph, 0.0)), to=TensorProto.FLOAT)
    return graph.op("Mul", x, present)


def _back(graph: Graph) -> str:
    """(T, T) how far a word stands before another; negative behind it."""
    length = graph.op("Shape", "tokens", start=1, end=2)
    scalar = graph.op("Squeeze", length, graph.ints(0))
    zero, one = (graph.weight(f"scalar_{i}", np.array(i, np.int64)) for i in (0, 1))
    at = graph.op("Cast", graph.op("Range", zero, scalar, one), to=TensorProto.FLOAT)
    return graph.op("Sub", graph.op("Unsqueeze", at, graph.ints(1)), at)


def _near(graph: Graph, tensors: Tensors, prefix: str, name: str, back: str) -> str:
    """(H, T, T) minus slope times distance."""
    slopes = -np.exp(tensors[name]).reshape(2, -1, 1, 1)
    ahead = graph.op("Neg", back)
    sides = zip(("before", "behind"), slopes, (back, ahead), strict=True)
    return graph.op(
        "Add",
        *(
            graph.op("Mul", graph.weight(f"{prefix}{name}.{side}", slope), graph.op("Relu", far))
            for side, slope, far in sides
        ),
    )


def _taken(
    graph: Graph, tensors: Tensors, prefix: str, name: str, mixing: str, x: str, near: str
) -> str:
    """What words take from one another: x (B, T, D), near (B, H, T, T) -> (B, T, D)."""
    n_heads = len(tensors[name + "q.weight"]) // HEAD
    normed, heads = _unit(graph, x), graph.ints(0, 0, n_heads, HEAD)
    q, k, v = (
        graph.op("Reshape", _product(graph, tensors, prefix, name + part, normed), heads)
        for part in "qkv"
    )
    q, v = (graph.op("Transpose", z, perm=[0, 2, 1, 3]) for z in (q, v))
    match = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 2, 3, 1]))
    match = graph.op("Mul", match, _number(graph, HEAD**-0.5))
    if mixing == "attention":
        share = graph.op("Softmax", graph.op("Add", match, near), axis=-1)
        taken = graph.op("MatMul", share, v)
    else:
        share = graph.op("Mul", match, graph.op("Exp", near))
        taken = _unit(graph, graph.op("MatMul", share, v))
    taken = graph.op("Transpose", taken, perm=[0, 2, 1, 3])
    taken = graph.op("Reshape", taken, graph.ints(0, 0, n_heads * HEAD))
    return _product(graph, tensors, prefix, name + "join", taken)


def _unit(graph: Graph, x: str) -> str:
    """Along the last axis to unit mean square."""
    mean = graph.op("ReduceMean", graph.op("Mul", x, x), axes=[-1], keepdims=1)
    return graph.op("Div", x, graph.op("Sqrt", graph.op("Add", mean, _number(graph, EPS))))


def _number(graph: Graph, value: float) -> str:
    return graph.weight(f"f_{value!r}", np.array(value, np.float32))


def _gram_weights(graph: Graph) -> str:
    """1 / sqrt(n) for each of a word's n rows, 0 for padding; (U, G)."""
    present = graph.op("Cast", graph.op("Greater", "grams", graph.ints(0)), to=TensorProto.FLOAT)
    count = graph.op("ReduceSum", present, graph.ints(1), keepdims=1)
    one = graph.weight("one", np.array([1.0], np.float32))
    return graph.op("Div", present, graph.op("Sqrt", graph.op("Max", count, one)))


def _linear(graph: Graph, tensors: Tensors, prefix: str, name: str, x: str) -> str:
    bias = graph.weight(prefix + name + ".bias", tensors[name + ".bias"])
    return graph.op("Add", _product(graph, tensors, prefix, name, x), bias)


def _product(graph: Graph, tensors: Tensors, prefix: str, name: str, x: str) -> str:
    weight = np.ascontiguousarray(tensors[name + ".weight"].T)
    return graph.op("MatMul", x, graph.weight(prefix + name + ".weight", weight))
