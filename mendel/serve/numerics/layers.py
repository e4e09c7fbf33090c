"""The parts of a model as operations: what each part computes, in the order that it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mendel.model import Model
from mendel.parts import channel
from mendel.parts.attention import Attention
from mendel.parts.convolution import MultiScaleFIR, ShortConvolution
from mendel.parts.embedding import TokenEmbedding
from mendel.parts.heads import LMHead
from mendel.parts.long_convolution import Hyena
from mendel.parts.norm import LayerNorm, RMSNorm
from mendel.parts.part import Part
from mendel.parts.recurrent import Recurrence
from mendel.parts.routed import Routed
from mendel.serve.numerics import machine, ops, rows
from mendel.serve.numerics.pieces import activation, convolution, heads_norm
from mendel.serve.numerics.recurrences import recurrence, routed
from mendel.serve.numerics.tape import NOWHERE, Register, Tape
from mendel.serve.numerics.vectors import LANES, QUERIES
from mendel.types import InputError


def embedding(tape: Tape, part: Any, width: int) -> Register:
    x = tape.register("x", width)
    learned = part.fields.position == "learned"
    at = tape.vector(part.positions.weight) if learned else NOWHERE
    ints = [width, tape.table(part.tokens.weight), at, int(part.fields.norm)]
    tape.add(machine.EMBED, ints, out=x, number=1e-5)
    return x


def norm(tape: Tape, part: Any, x: Register, name: str) -> Register:
    width = part.width if isinstance(part, RMSNorm) else len(part.gain)
    out = tape.register(name, width)
    gain = NOWHERE if part.gain is None else tape.vector(part.gain)
    bias = getattr(part, "bias", None)
    kind = ops.LAYER if isinstance(part, LayerNorm) else ops.RMS
    ints = [width, 1, gain, NOWHERE if bias is None else tape.vector(bias), kind]
    tape.add(machine.NORM, ints, a=x, out=out, number=part.eps)
    return out


def attention(tape: Tape, part: Any, x: Register) -> Register:
    f, H, G, D = part.fields, part.n_heads, part.n_kv, part.D
    q = tape.multiply(x, [part.q.weight, part.k.weight, part.v.weight], "wide")
    if f.conv:
        mixed = tape.register("convolved", (H + 2 * G) * D)
        convolution(tape, q, part.taps, mixed)
        q = mixed
    k, v = q.after(H * D), q.after((H + G) * D)
    if f.qk_norm:
        heads_norm(tape, q, D, H, part.q_gain, f.qk_norm_eps)
        heads_norm(tape, k, D, G, part.k_gain, f.qk_norm_eps)
    if f.rotary:
        tape.add(machine.TURN, [D, H + G, tape.turn_table(D, f.rotary_base)], out=q)
    wide = -(-D // LANES) * LANES
    group, at = tape.page(f.window, G * (D + wide))
    tape.room_floats = max(tape.room_floats, 2 * QUERIES * wide + LANES)
    y = tape.register("heads", H * D)
    ints = [H, G, D, wide, f.window or 0, group, at]
    tape.add(machine.ATTEND, ints, a=q, b=k, c=v, out=y, number=D**-0.5)
    return tape.multiply(y, [part.out.weight], "y")


def short_convolution(tape: Tape, part: Any, x: Register) -> Register:
    gate = tape.multiply(x, [part.gate.weight, part.value.weight], "wide")
    width = part.gate.out_features
    y = tape.register("convolved", width)
    convolution(tape, gate.after(width), part.filters, y)
    code = 0 if isinstance(part.act, nn.Identity) else rows.SILU
    activation(tape, code, y, width, y, gate)
    return tape.multiply(y, [part.out.weight], "y")


def multi_scale(tape: Tape, part: Any, x: Register) -> Register:
    C, H, D = part.value.out_features, part.n_heads, part.D
    y = tape.register("convolved", C)
    if part.per_token is None:
        convolution(tape, tape.multiply(x, [part.value.weight], "wide"), part.one_filter(), y)
        return tape.multiply(y, [part.out.weight], "y")
    v = tape.multiply(x, [part.value.weight, part.per_token.weight], "wide")
    n, shares, branch = len(part.filters), v.after(C), tape.register("heads", C)
    tape.add(machine.NORM, [n, H, NOWHERE, NOWHERE, ops.SOFTMAX], a=shares, out=shares)
    for i, filters in enumerate(part.filters):
        convolution(tape, v, filters, branch)
        tape.add(machine.BLEND, [H, D, n, i, int(i > 0)], a=branch, b=shares, out=y)
    return tape.multiply(y, [part.out.weight], "y")


def hyena(tape: Tape, part: Any, x: Register) -> Register:
    C = part.out.in_features
    z = tape.register("convolved", 3 * C)
    convolution(tape, tape.multiply(x, [part.project.weight], "wide"), part.short, z)
    u, y = z.after(2 * C), tape.register("heads", C)
    activation(tape, 0, u, C, u, z.after(C))
    convolution(tape, u, part.filter(), y)
    tape.add(machine.DIRECT, [C, 1, tape.vector(part.skip)], a=u, out=y)
    activation(tape, 0, y, C, y, z)
    return tape.multiply(y, [part.out.weight], "y")


def code_of(act: Any) -> int:
    name = next(name for name, f in channel.ACTIVATIONS.items() if f is act)
    return rows.ACTS.index(name)


def mlp(tape: Tape, part: Any, x: Register) -> Register:
    up = tape.multiply(x, [part.up.weight], "wide")
    activation(tape, code_of(part.act), up, part.up.out_features, up)
    return tape.multiply(up, [part.out.weight], "y")


def gated(tape: Tape, part: Any, x: Register) -> Register:
    gate = tape.multiply(x, [part.gate.weight, part.up.weight], "wide")
    n = part.up.out_features
    activation(tape, code_of(part.act), gate, n, gate, gate.after(n))
    return tape.multiply(gate, [part.out.weight], "y")


LAYERS: dict[type[Part], Callable[[Tape, Any, Register], Register]] = {
    Attention: attention,
    Recurrence: recurrence,
    Routed: routed,
    ShortConvolution: short_convolution,
    MultiScaleFIR: multi_scale,
    Hyena: hyena,
    channel.MLP: mlp,
    channel.GatedMLP: gated,
}


def check(model: Model) -> None:
    """Raises InputError that names the first part that has no exact kernel."""
    parts: list[tuple[Any, tuple[type[Part], ...]]] = [(model.embedding, (TokenEmbedding,))]
    layers: Any = model.layers
    for layer in layers:
        parts += [(layer.mixer_norm, (RMSNorm, LayerNorm)), (layer.mixer, tuple(LAYERS))]
        if layer.has_channel:
            parts += [(layer.channel_norm, (RMSNorm, LayerNorm)), (layer.channel, tuple(LAYERS))]
    if model.final_norm is not None:
        parts.append((model.final_norm, (RMSNorm, LayerNorm)))
    parts.append((model.head, (LMHead,)))
    for part, known in parts:
        if type(part) not in known or not _is_plain(part):
            raise InputError(
                f"{part.kind} {part.name!r} has no exact kernel. Serve it with the reference."
            )


def _is_plain(part: Part) -> bool:
    """Whether the part's weights say all: no adapter in place of a matrix, no hook on it."""
    for module in part.modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return False
        if isinstance(module, nn.Linear | nn.Embedding) and type(module) not in (
            nn.Linear,
            nn.Embedding,
        ):
            return False
    return True


@torch.no_grad()
def compiled(model: Model, is_half: bool) -> tuple[Tape, list[int], Register, Register]:
    """The tape; where its layers begin and the last one ends; the residual and the logits."""
    check(model)
    tape = Tape(is_half)
    width = model.spec.width
    x = embedding(tape, model.embedding, width)
    begins = [len(tape.operations)]
    layers: Any = model.layers
    for layer in layers:
        pairs = [(layer.mixer_norm, layer.mixer)]
        pairs += [(layer.channel_norm, layer.channel)] if layer.has_channel else []
        for before, part in pairs:
            y = LAYERS[type(part)](tape, part, norm(tape, before, x, "normed"))
            tape.add(machine.ADD, [width], a=y, out=x)
        begins.append(len(tape.operations))
    last = tape.register("last", width)
    tape.add(machine.GATHER, [width], a=x, out=last)
    if model.final_norm is not None:
        last = norm(tape, model.final_norm, last, "last normed")
    head: Any = model.head
    return tape, begins, x, tape.multiply(last, [head.logits.weight], "logits")
