"""Weights to ONNX, by hand: small graphs start fast, and int8 tables stay int8 on disk.

ids weights bm25 -> scores (B, S, P): BM25, and with vectors the cosine
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .features import Floats
from .fit import Trained

OPSET = 17


class Graph:
    """Nodes and weights in the order in which they were said."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}

    def weight(self, name: str, value: NDArray[Any]) -> str:
        self.weights[name] = value
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def axis(self, number: int) -> str:
        return self.weight(f"axis_{number}", np.array([number], np.int64))


def build_graph(trained: Trained, *, int8: bool) -> bytes:
    """The model as ONNX; with `int8`, vectors are int8 with one scale a row.

    ids (B, N) int64, weights (B, N), bm25 (B, P) float32, as Featurizer.arrays returns
    returns   serialised ModelProto whose output is `scores` (B, S, P) float32
    """
    graph, n = Graph(), len(trained.featurizer.passages)
    inputs = [helper.make_tensor_value_info("bm25", TensorProto.FLOAT, ["B", n])]
    scores = graph.op("Unsqueeze", "bm25", graph.axis(1))
    if trained.tensors:
        inputs += [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "N"]),
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["B", "N"]),
        ]
        cosine = graph.op("Unsqueeze", _cosine(graph, trained, int8), graph.axis(1))
        scores = graph.op("Concat", scores, cosine, axis=1)
    graph.nodes[-1].output[0] = "scores"
    assert scores == graph.nodes[-1].name
    n_scores = 1 + bool(trained.tensors)
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["B", n_scores, n])
    weights = [numpy_helper.from_array(value, name) for name, value in graph.weights.items()]
    made = helper.make_graph(graph.nodes, "search", inputs, [output], weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def quantise(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """(R, D) -> int8 rows, and the scale of each, (R, 1)."""
    scale = np.maximum(np.abs(table).max(1, keepdims=True), 1e-12) / 127
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


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
    vector = graph.op("MatMul", graph.op("Unsqueeze", weights, graph.axis(1)), found)
    vector = graph.op("Squeeze", vector, graph.axis(1))
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
