"""Weights to ONNX, by hand: small graphs start fast, and int8 tables stay int8 on disk.

ids weights bm25 -> scores (B, S, P): BM25, and with vectors the cosine
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from ..carried.drawing import Graph, quantise, value
from .features import Floats
from .fit import Trained


def build_graph(trained: Trained, *, int8: bool) -> bytes:
    """The model as ONNX; with `int8`, vectors are int8 with one scale a row.

    ids (B, N) int64, weights (B, N), bm25 (B, P) float32, as Featurizer.arrays returns
    returns   serialised ModelProto whose output is `scores` (B, S, P) float32
    """
    graph, n = Graph(), len(trained.featurizer.passages)
    inputs = [value("bm25", ["B", n])]
    scores = graph.op("Unsqueeze", "bm25", graph.ints(1))
    if trained.tensors:
        inputs += [
            value("ids", ["B", "N"], TensorProto.INT64),
            value("weights", ["B", "N"]),
        ]
        cosine = graph.op("Unsqueeze", _cosine(graph, trained, int8), graph.ints(1))
        scores = graph.op("Concat", scores, cosine, axis=1)
    shape: list[str | int] = ["B", 1 + bool(trained.tensors), n]
    return graph.drawn(inputs, [graph.output("scores", scores, shape)])


def _cosine(graph: Graph, trained: Trained, int8: bool) -> str:
    """(B, P) of the query's vector with that of each passage."""
    weights, table = "weights", trained.tensors["table"]
    if int8:
        rows, scale = quantise(table)
        scales = graph.op("Gather", graph.weight("table.scale", scale[:, 0]), "ids")
        weights = graph.op("Mul", weights, scales)
        found = graph.op("Gather", graph.weight("table", rows), "ids")
        found = graph.op("Cast", found, to=TensorProto.FLOAT)
    else:
        found = graph.op("Gather", graph.weight("table", table), "ids")
    vector = graph.op("MatMul", graph.op("Unsqueeze", weights, graph.ints(1)), found)
    vector = graph.op("Squeeze", vector, graph.ints(1))
    norm = graph.op("ReduceL2", vector, axes=[1], keepdims=1)
    least = graph.weight("least", np.array([1e-6], np.float32))
    vector = graph.op("Div", vector, graph.op("Max", norm, least))
    return _product(graph, vector, trained.tensors["passages"], int8)


def _product(graph: Graph, vector: str, passages: Floats, int8: bool) -> str:
    if not int8:
        return graph.op("MatMul", vector, graph.weight("passages", passages.T.copy()))
    rows, scale = quantise(passages)
    matrix = graph.op("Cast", graph.weight("passages", rows.T.copy()), to=TensorProto.FLOAT)
    return graph.op("Mul", graph.op("MatMul", vector, matrix), graph.weight("scale", scale[:, 0]))
