"""What a safetensors file says of itself, besides its tensors."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

from numpy.typing import NDArray
from safetensors.numpy import load, save


def packed(tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> bytes:
    """Tensors and JSON in one file."""
    return save(dict(tensors), {"mendel": json.dumps(about, sort_keys=True)})


def unpacked(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Both again; raises SafetensorError where the bytes are damaged."""
    tensors = load(data)
    length = int.from_bytes(data[:8], "little")  # of the header, which is JSON
    about: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["mendel"])
    return tensors, about


class Saved(Protocol):
    def save(self, file: BinaryIO) -> None: ...


def files_of(graph: bytes, vocabulary: Saved, weights: bytes) -> dict[str, bytes]:
    """What answering and training on need, by name."""
    content = io.BytesIO()
    vocabulary.save(content)
    return {
        "model.onnx": graph,
        "vocabulary.npz": content.getvalue(),
        "model.safetensors": weights,
    }
