"""The wire: a frame is JSON and named arrays, with both lengths in front of them.

    JSON's length, 8 bytes | safetensors' length, 8 bytes | JSON | safetensors

What comes out of a sandbox is read with these functions and no others. Nothing is unpickled or
decompressed; lengths are checked before anything is allocated.
"""

from __future__ import annotations

import functools
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

HEAD = struct.Struct("<QQ")
MAX_JSON = 8 << 20  # parsed JSON takes up to 25 times its bytes; what is large is an array
MAX_NAMES = 1 << 20  # the header of safetensors is JSON too
MAX_INTEGER = 2**64
KINDS = "biuf"  # numpy's letters: bool, integers, floats


class FrameError(ValueError):
    """What arrived is not a frame."""


@dataclass(frozen=True)
class Frame:
    """`kind` says what it is, `value` is the JSON, `torch` names the arrays that were tensors."""

    kind: str
    value: dict[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    torch: Mapping[str, str] = field(default_factory=dict)  # name -> torch's name of its dtype


def is_array(value: object) -> bool:
    """A numpy array or a torch tensor; neither library is imported to find out."""
    kind: Any = type(value)
    return _is_array_type(kind)


@functools.lru_cache(256)
def _is_array_type(kind: type) -> bool:
    known = (("numpy", "ndarray"), ("torch", "Tensor"))
    return any((t.__module__, t.__name__) in known for t in kind.__mro__)


def split(kind: str, values: Mapping[str, Any], *, exact: bool = True) -> Frame:
    """Part the arrays of a mapping from its JSON.

    exact    bfloat16 goes as its bits, for a receiver that has torch; else as float32
    """
    plain = {name: value for name, value in values.items() if not is_array(value)}
    arrays: dict[str, Array] = {}
    torch: dict[str, str] = {}
    for name, value in values.items():
        if not is_array(value):
            continue
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            torch[name] = str(value.dtype).removeprefix("torch.")
            if torch[name] == "bfloat16":
                value = value.view(_torch().int16) if exact else value.float()
            value = value.resolve_conj().resolve_neg().numpy()
        arrays[name] = value
    return Frame(kind, plain, arrays, torch)


def join(frame: Frame) -> dict[str, Any]:
    """The mapping that `split` parted; tensors are tensors again."""
    values = dict(frame.value)
    for name, array in frame.arrays.items():
        if name not in frame.torch:
            values[name] = array
            continue
        tensor = _torch().from_numpy(array)
        values[name] = tensor.view(_torch().bfloat16) if frame.torch[name] == "bfloat16" else tensor
    return values


def _torch() -> Any:
    import torch

    return torch


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises TypeError or ValueError for values that JSON does not know."""
    header = {"kind": frame.kind, "value": frame.value, "torch": frame.torch}
    text = _TO_TEXT.encode(header).encode("utf-8")
    blob = b""
    if frame.arrays:
        import numpy as np
        from safetensors.numpy import save

        blob = save({str(k): np.asarray(_array(k, v), order="C") for k, v in frame.arrays.items()})
    return HEAD.pack(len(text), len(blob)) + text + blob


def _array(name: str, array: Array) -> Array:
    """What both sides read the same: plain numbers of up to 8 bytes, in this machine's order."""
    kind = array.dtype
    if kind.kind not in KINDS or kind.itemsize > 8:
        raise TypeError(f"{name!r} is an array of {kind}, not of bools, integers or floats")
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _plain(value: object) -> object:
    """numpy's numbers are numbers; nothing else is guessed at."""
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is neither JSON nor an array")


def decode(text: bytes, blob: bytes) -> Frame:
    """Raises FrameError, and nothing else, whatever the bytes are."""
    try:
        header = _FROM_TEXT.decode(text.decode("utf-8"))
        if rb"\ud" in text.lower():  # half a surrogate would break whoever stores it
            json.dumps(header, ensure_ascii=False).encode("utf-8")
        kind, value, torch = header["kind"], header["value"], header["torch"]
        if not (isinstance(kind, str) and isinstance(value, dict) and isinstance(torch, dict)):
            raise FrameError("the header's fields have other types")
        return Frame(kind, value, _arrays(blob), torch)
    except FrameError:
        raise
    # a stranger's bytes: recursion, memory, a Rust error of safetensors, whatever else there is
    except Exception as error:
        raise FrameError(f"{type(error).__name__}: {str(error)[:200]}") from None


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(value := int(digits)) >= MAX_INTEGER:
        raise FrameError("an integer beyond 64 bits")
    return value


# made once: json.dumps and json.loads would make one a frame
_TO_TEXT = json.JSONEncoder(default=_plain, ensure_ascii=False)
_FROM_TEXT = json.JSONDecoder(parse_int=_integer)


def _arrays(blob: bytes) -> dict[str, Array]:
    if not blob:
        return {}
    if int.from_bytes(blob[:8], "little") > MAX_NAMES:
        raise FrameError("the names of the tensors alone take a megabyte")
    from safetensors.numpy import load

    arrays: dict[str, Array] = load(blob)
    for name, array in arrays.items():
        name.encode("utf-8")
        # numpy counts on a bool being 0 or 1: another byte makes its loops miscount
        if array.dtype == bool and array.size and array.view("uint8").max() > 1:
            raise FrameError(f"{name!r} holds bools that are neither 0 nor 1")
    return arrays


class FrameReader:
    """Reads one frame from a socket, as much at a time as there is."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sizes: tuple[int, int] | None = None
        self._buffer = bytearray(HEAD.size)
        self._filled = 0

    @property
    def begun(self) -> bool:
        """Part of a frame is here."""
        return self._filled > 0 or self._sizes is not None

    def read(self, source: socket.socket) -> Frame | None:
        """The frame once it is whole; None where more must come.

        raises   EOFError at the stream's end, FrameError, BlockingIOError
        """
        n = source.recv_into(memoryview(self._buffer)[self._filled :], 0, socket.MSG_WAITALL)
        if n == 0:
            raise EOFError("the other side closed")
        self._filled += n
        if self._filled < len(self._buffer):
            return None
        if self._sizes is None:
            return self._begin()
        return self._finish(*self._sizes)

    def _begin(self) -> Frame | None:
        text, blob = HEAD.unpack(self._buffer)
        if text > MAX_JSON or text + blob > self.limit:
            raise FrameError(f"a frame of {text} + {blob} bytes. Wanted at most {self.limit}")
        if text == 0:
            raise FrameError("a frame without JSON")
        self._sizes, self._buffer, self._filled = (text, blob), bytearray(text + blob), 0
        return None

    def _finish(self, text: int, blob: int) -> Frame:
        view = memoryview(self._buffer)
        frame = decode(bytes(view[:text]), bytes(view[text:]))
        self._sizes, self._buffer, self._filled = None, bytearray(HEAD.size), 0
        return frame


def receive(source: socket.socket, limit: int) -> Frame:
    """Wait for one frame; for the side that has time. Raises EOFError, FrameError."""
    reader = FrameReader(limit)
    while (frame := reader.read(source)) is None:
        pass
    return frame


def send(sink: socket.socket, frames: Iterable[Frame]) -> None:
    for frame in frames:
        sink.sendall(encode(frame))
