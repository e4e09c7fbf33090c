"""Nodes and weights to ONNX, by hand: small graphs start fast, and int8 weights stay so on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Graph:
    """Nodes and weights in the order in which they were said; `int8` is how matrices are kept."""

    def __init__(self, int8: bool = False) -> None:
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}

    def weight(self, name: str, value: NDArray[Any]) -> str:
        self.weights[name] = value
        return name

    def matrix(self, name: str, value: NDArray[Any]) -> str:
        """A weight (..., R, C); an int8 one is made float32 when the graph is loaded."""
        if not self.int8:
            return self.weight(name, value)
        rows, scale = quantise(value)
        found = self.op("Cast", self.weight(name, rows), to=TensorProto.FLOAT)
        return self.op("Mul", found, self.weight(name + ".scale", scale))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, *inputs, n=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, n: int, **attributes: Any) -> list[str]:
        """A node with n outputs."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        outputs = [name, *(f"{name}_{i}" for i in range(1, n))]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=name, **attributes))
        return outputs

    def ints(self, *values: int) -> str:
        return self.weight("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def output(self, name: str, found: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
        """What a node found, as an output of this name."""
        self.nodes.append(helper.make_node("Identity", [found], [name]))
        return value(name, shape)

    def drawn(
        self, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> bytes:
        """The serialised ModelProto."""
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        made = helper.make_graph(self.nodes, "model", list(inputs), list(outputs), weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(made, opset_imports=[opset], ir_version=9)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def value(
    name: str, shape: Sequence[str | int], kind: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """An input or an output; sizes that vary have names."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def quantise(table: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale a row: (..., R, D) -> (..., R, D) int8, (..., R, 1) float32."""
    scale = np.maximum(np.abs(table).max(-1, keepdims=True), 1e-12) / 127
    return np.round(table / scale).astype(np.int8), scale.astype(np.float32)
