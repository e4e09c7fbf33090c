"""What a part costs by its algebra, exactly what running it would count; a thousand times quicker.

part, fields, width, tokens -> parameters, FLOPs a token, bytes of state after the last token
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from mendel.parts.channel import hidden_width
from mendel.parts.convolution import SHORT, fast_length
from mendel.parts.flops import count_flops
from mendel.parts.part import Kind, Part, head_width, make, resolve
from mendel.parts.recurrence import scan
from mendel.parts.recurrent import RANK
from mendel.parts.routed import HIDDEN, N_LOGITS, N
from mendel.propose.spelling import once_a_part, whole
from mendel.spec import PartSpec, SpecError

FLOAT = 4  # bytes
COUNTER = 8  # bytes of a position


class Price(NamedTuple):
    """What a part or a recipe costs."""

    n_params: int
    flops: float  # a token, forward, over a text of the length asked for; matrix work only
    state_bytes: int  # that one text leaves behind

    def __add__(self, other: Any) -> Price:
        return Price(*(mine + its for mine, its in zip(self, other, strict=True)))


NOTHING = Price(0, 0.0, 0)
Fields = dict[str, Any]
Rule = Callable[[Fields, int, int], Price]  # fields, width, tokens


@once_a_part
def part_price(kind: Kind, spec: PartSpec, width: int, n_tokens: int, *sizes: int) -> Price:
    """Of one part; `sizes` are what its kind is given besides the width.

    raises   SpecError as building it does
    """
    cls, _ = resolve(kind, spec)
    rule = RULES.get((kind, cls.name))
    fields: Fields = {name: None for name in cls.Fields.model_fields} | whole(kind, spec)
    if rule is None or (fields.get("conv") or 0) > SHORT:
        return measured(kind, spec, width, n_tokens, *sizes)
    return rule(fields, width, n_tokens)


def measured(kind: Kind, spec: PartSpec, width: int, n_tokens: int, *sizes: int) -> Price:
    """Of one part, by building and running it once; what the rules are tested against."""
    part: Part = make(kind, spec, width, *sizes).eval()
    n_params = sum(p.numel() for p in part.parameters())
    x = torch.zeros(1, n_tokens, width)
    if kind == "embedding":
        vocab, context = sizes
        if n_tokens > context:  # learned positions end there, and cost no more beyond
            part = make(kind, spec, width, vocab, n_tokens)
        x = torch.zeros(1, n_tokens, dtype=torch.int64)
    states: list[Any] = []
    with torch.no_grad():
        flops = count_flops(lambda: states.append(part(x)[1]))
    n_bytes = sum(t.numel() * t.element_size() for t in states[0].values())
    return Price(n_params, flops / n_tokens, n_bytes)


def _matrix(n_in: int, n_out: int, *, bias: bool = False) -> Price:
    return Price(n_in * n_out + bias * n_out, 2.0 * n_in * n_out, 0)


def _numbers(n: int) -> Price:
    return Price(n, 0.0, 0)


def _filter(channels: int, taps: int, n_tokens: int) -> Price:
    """A causal convolution: directly, or by FFT of the inputs, the taps and the product."""
    n_params, state = channels * taps, FLOAT * channels * (taps - 1)
    used = min(taps, n_tokens)
    if used <= SHORT:
        return Price(n_params, 2.0 * channels * used, state)
    n = fast_length(n_tokens + used - 1)
    there = sum(int(m * channels * 2.5 * math.log2(n)) for m in (n, n))
    half = n // 2 + 1
    back = int(half * channels * 2.5 * math.log2(half))
    return Price(n_params, (there + back) / n_tokens, state)


def _low_rank(width: int, n_out: int) -> Price:
    rank = min(RANK, width)
    return _matrix(width, rank) + _matrix(rank, n_out, bias=True)


def _recurrence(f: Fields, C: int, T: int) -> Price:
    H, n = f["n_heads"], f["n_steps"]
    D, V = (f[dim] or head_width(C, H) for dim in ("key_dim", "value_dim"))
    if f["rotary"] and D % 2:
        raise SpecError(f"key_dim={D} is odd, and rotary=true turns pairs. Set an even one.")
    wide = H * D + n * H * D + n * H * V  # of q, k and v
    cost = _matrix(C, wide) + _matrix(H * V, C) + _scanned(f, H, D, V, T)
    if f["token_shift"]:
        cost += Price(C, 0.0, FLOAT * C)
    if f["conv"]:
        cost += _filter(wide, f["conv"], T)
    if f["rotary"]:
        cost += Price(0, 0.0, COUNTER)
    if f["decay"] == "learned":
        cost += _numbers(H)
    elif f["decay"] == "head":
        cost += _matrix(C, H) + _numbers(2 * H)
    elif f["decay"] in ("channel", "bounded"):
        cost += _low_rank(C, H * D)
    if f["write"] == "beta":
        cost += _matrix(C, n * H)
    if f["erase"] == "key":
        cost += _low_rank(C, H * D) + _numbers(2 * H * D)
    if f["out_gate"] != "none":
        cost += _matrix(C, H * V)
    return cost + _numbers(H * D * f["bonus"] + H * f["direct"] + V * f["out_norm"])


def _scanned(f: Fields, H: int, D: int, V: int, T: int) -> Price:
    decay = {"fixed": "fixed", "learned": "fixed", "bounded": "channel"}.get(f["decay"], f["decay"])
    flops = _scan_flops(decay, f["erase"], f["n_steps"], H, D, V, T)
    return Price(0, flops / T, FLOAT * H * D * V)


@lru_cache(maxsize=1 << 14)
def _scan_flops(decay: str, erase: str, n_steps: int, H: int, D: int, V: int, T: int) -> int:
    """Of the scan alone, by running it: its chunks have an algebra that is their own affair."""
    k = torch.zeros(1, H, T * n_steps, D)
    decays = {"fixed": (H,), "head": (1, H, T), "channel": (1, H, T, D)}
    given: dict[str, Any] = {"n_steps": n_steps}
    if decay in decays:
        given["log_decay"] = torch.zeros(decays[decay])
    if erase != "none":
        given["erase"] = k if erase == "delta" else (k, k)
    with torch.no_grad():
        return count_flops(
            lambda: scan(torch.zeros(1, H, T, D), k, torch.zeros(1, H, T * n_steps, V), **given)
        )


def _attention(f: Fields, C: int, T: int) -> Price:
    H = f["n_heads"]
    G, D, window = f["n_kv_heads"] or H, f["head_dim"] or head_width(C, H), f["window"]
    if H % G:
        raise SpecError(f"n_kv_heads={G} does not divide n_heads={H}.")
    if f["rotary"] and D % 2:
        raise SpecError(f"head_dim={D} is odd, and rotary=true turns pairs. Set an even one.")
    wide = (H + 2 * G) * D
    seen = T
    pairs = T * T  # of a query and a key
    if window is not None:
        seen = min(T, window - 1)
        if 2 * window < T:
            pairs = -(-T // window) * window * 2 * window
    cost = _matrix(C, wide) + _matrix(H * D, C)
    cost += Price(2 * D * f["qk_norm"], 4.0 * H * D * pairs / T, FLOAT * 2 * G * D * seen + COUNTER)
    return cost + _filter(wide, f["conv"], T) if f["conv"] else cost


def _routed(f: Fields, C: int, T: int) -> Price:
    H, n = f["n_heads"], N_LOGITS[f["gate"]]
    delta = {name: None for name in ("key_dim", "value_dim")} | {
        "n_heads": H, "n_steps": 1, "rotary": False, "token_shift": False, "conv": f["conv"],
        "decay": "learned" if f["retention"] else "none", "write": "beta", "erase": "delta",
        "out_gate": "none", "bonus": False, "direct": False, "out_norm": True,
    }  # fmt: skip
    cost = _recurrence(delta, C, T) + _filter(C, f["short"], T) + _filter(C, f["long"], T)
    # what a head feels and chooses is asked once a head
    cost += _matrix(C, H * HIDDEN) + _a_head(_matrix(2 * N, HIDDEN), H)
    cost += _a_head(_matrix(HIDDEN, n, bias=True), H)
    if f["gate"] == "softmax":
        cost += _numbers(H)
    if f["rescale"]:
        cost += _matrix(C, H) + _a_head(_matrix(2 + N, 1, bias=True), H)
    return cost


def _a_head(cost: Price, n_heads: int) -> Price:
    return cost._replace(flops=cost.flops * n_heads)


def _short_conv(f: Fields, C: int, T: int) -> Price:
    taps = f["kernel"]
    return _matrix(C, C) + _matrix(C, C) + _matrix(C, C) + _filter(C, taps, T)


def _mlp(f: Fields, C: int, T: int, n_up: int = 1) -> Price:
    hidden = f["hidden"] or hidden_width(C, f["ratio"])
    return _matrix(C, n_up * hidden) + _matrix(hidden, C)


def _gated(f: Fields, C: int, T: int) -> Price:
    return _mlp(f, C, T, n_up=2)


RULES: dict[tuple[Kind, str], Rule] = {
    ("mixer", "recurrence"): _recurrence,
    ("mixer", "attention"): _attention,
    ("mixer", "routed"): _routed,
    ("mixer", "short_conv"): _short_conv,
    ("channel", "mlp"): _mlp,
    ("channel", "gated"): _gated,
}
