"""What is done to each row alone: rounding, norms, activations, turns. Slices in, slices out.

A row's result is a function of the row: the same instructions in the same order, wherever it lies
in a batch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mendel.serve.numerics.vectors import jit
from mendel.serve.protocols import F32

ACTS = ("none", "relu", "relu2", "gelu", "silu", "sigmoid", "elu1", "tanh")
RELU, RELU2, GELU, SILU, SIGMOID, ELU1, TANH = range(1, len(ACTS))
LOG2E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
ONE, HALF, TWO = np.float32(1), np.float32(0.5), np.float32(2)


@jit
def exp(x: Any) -> Any:
    """e^x to 2 units in the last place, without branches, so that loops of it fill the lanes.

    source   Cephes expf; below -87 it gives about 1e-38 instead of less
    """
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.floor(x * LOG2E + HALF)
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + ONE
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@jit
def sigmoid(x: Any) -> Any:
    return ONE / (ONE + exp(-x))


@jit
def tanh(x: Any) -> Any:
    return TWO * sigmoid(TWO * x) - ONE


@jit
def softplus(x: np.float32) -> np.float32:
    return np.float32(max(x, np.float32(0)) + math.log1p(math.exp(-abs(x))))


@jit
def rounded(x: F32) -> None:
    """To bf16's nearest, in place; of two as near the even one, as torch rounds."""
    bits = x.view(np.int32)
    for i in range(len(x)):
        b = bits[i]
        up = (b + np.int32(0x7FFF) + ((b >> np.int32(16)) & np.int32(1))) & np.int32(-65536)
        bits[i] = up if x[i] == x[i] else np.int32(0x7FC00000)


@jit
def round_one(x: np.float32) -> np.float32:
    b = np.float32(x).view(np.int32)
    up = (b + np.int32(0x7FFF) + ((b >> np.int32(16)) & np.int32(1))) & np.int32(-65536)
    return np.int32(up).view(np.float32)


@jit
def activate(code: int, x: F32, y: F32) -> None:
    """y = act(x); the same slice may be both."""
    n = len(x)
    if code == RELU:
        for i in range(n):
            y[i] = max(x[i], np.float32(0))
    elif code == RELU2:
        for i in range(n):
            up = max(x[i], np.float32(0))
            y[i] = up * up
    elif code == GELU:
        for i in range(n):
            v = x[i]
            inner = np.float32(0.7978845608028654) * (v + np.float32(0.044715) * v * v * v)
            y[i] = v * sigmoid(TWO * inner)  # 0.5 (1 + tanh z) = sigmoid(2 z)
    elif code == SILU:
        for i in range(n):
            y[i] = x[i] * sigmoid(x[i])
    elif code == SIGMOID:
        for i in range(n):
            y[i] = sigmoid(x[i])
    elif code == TANH:
        for i in range(n):
            y[i] = tanh(x[i])
    elif code == ELU1:
        for i in range(n):
            v = x[i]
            y[i] = v + ONE if v > 0 else exp(v)
    else:
        for i in range(n):
            y[i] = x[i]


@jit
def mean_square(x: F32) -> np.float32:
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return total / np.float32(len(x))


@jit
def rms_norm(x: F32, y: F32, gain: F32, eps: float) -> None:
    """gain of length 0: none."""
    scale = ONE / np.sqrt(mean_square(x) + np.float32(eps))
    if len(gain) == 0:
        for i in range(len(x)):
            y[i] = x[i] * scale
    else:
        for i in range(len(x)):
            y[i] = x[i] * scale * gain[i]


@jit
def layer_norm(x: F32, y: F32, gain: F32, bias: F32, eps: float) -> None:
    n = len(x)
    total = np.float32(0)
    for i in range(n):
        total += x[i]
    mean = total / np.float32(n)
    square = np.float32(0)
    for i in range(n):
        square += (x[i] - mean) * (x[i] - mean)
    scale = ONE / np.sqrt(square / np.float32(n) + np.float32(eps))
    for i in range(n):
        y[i] = (x[i] - mean) * scale * gain[i]
    if len(bias):
        for i in range(n):
            y[i] += bias[i]


@jit
def unit(x: F32) -> None:
    """To unit length, as the recurrence's keys."""
    scale = ONE / np.sqrt(mean_square(x) * np.float32(len(x)) + np.float32(1e-6))
    for i in range(len(x)):
        x[i] *= scale


@jit
def softmax(x: F32) -> None:
    high = x[0]
    for i in range(len(x)):
        high = max(high, x[i])
    total = np.float32(0)
    for i in range(len(x)):
        x[i] = exp(x[i] - high)
        total += x[i]
    for i in range(len(x)):
        x[i] /= total


@jit
def turn(x: F32, cos: F32, sin: F32, is_half: bool) -> None:
    """Rotary: pairs (i, i + D/2) by the angles of a position; rounded where torch rounds."""
    half = len(x) // 2
    for i in range(half):
        a, b = x[i], x[half + i]
        if is_half:
            x[i] = round_one(round_one(a * cos[i]) - round_one(b * sin[i]))
            x[half + i] = round_one(round_one(b * cos[i]) + round_one(a * sin[i]))
        else:
            x[i] = a * cos[i] - b * sin[i]
            x[half + i] = b * cos[i] + a * sin[i]
