"""The parts of a model as operations: what each part computes, in the order that it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
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
from mendel.parts.recurrent import LowRank, Recurrence
from mendel.serve.numerics import machine, ops, rows
from mendel.serve.numerics.pool import aligned
from mendel.serve.numerics.tape import NONE, NOWHERE, Register, Tape
from mendel.serve.numerics.vectors import LANES
from mendel.types import InputError

FEATURES = {"relu": rows.RELU, "silu": rows.SILU, "elu": rows.ELU1}


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


def heads_norm(tape: Tape, x: Register, n: int, n_heads: int, gain: Any, eps: float) -> None:
    ints = [n, n_heads, tape.vector(gain), NOWHERE, ops.RMS]
    tape.add(machine.NORM, ints, a=x, out=x, number=eps)


def activation(
    tape: Tape, code: int, x: Register, n: int, out: Register, by: Register | None = None
) -> None:
    """out = act(x), times another register."""
    tape.add(machine.ACT, [n, code, int(by is not None)], a=x, b=by or NONE, out=out)


def convolution(tape: Tape, x: Register, filters: Any, out: Register) -> None:
    """filters (C, K), the newest last."""
    C, K = filters.shape
    ints = [C, K, tape.vector(filters.detach().t().contiguous()), tape.state(C * (K - 1))]
    tape.add(machine.CONVOLVE, ints, a=x, out=out)


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
    tape.room_floats = max(tape.room_floats, 2 * wide)
    y = tape.register("heads", H * D)
    ints = [H, G, D, wide, f.window or 0, group, at]
    tape.add(machine.ATTEND, ints, a=q, b=k, c=v, out=y, number=D**-0.5)
    return tape.multiply(y, [part.out.weight], "y")


def recurrence(tape: Tape, part: Any, x: Register) -> Register:
    x = shifted(tape, part, x)
    o, _, gate = paths(tape, part, x)
    f, H, V = part.fields, part.H, part.V
    if f.out_gate != "none":
        code = rows.SILU if f.out_gate == "silu" else rows.SIGMOID
        activation(tape, code, gate, H * V, gate, o)
        o = gate
    return tape.multiply(o, [part.out.weight], "y")


def shifted(tape: Tape, part: Any, x: Register) -> Register:
    if not part.fields.token_shift:
        return x
    width = len(part.shift)
    out = tape.register("shifted", width)
    ints = [width, tape.vector(part.shift), tape.state(width)]
    tape.add(machine.SHIFT, ints, a=x, out=out)
    return out


def paths(tape: Tape, part: Any, x: Register) -> tuple[Register, Register, Register]:
    """What the heads give after their norm, the values, and what the gate sees: one product."""
    f, H, D, V, n = part.fields, part.H, part.D, part.V, part.fields.n_steps
    named = {"qkv": part.qkv.weight}
    if f.write == "beta":
        named["beta"] = part.beta.weight
    if f.decay == "head":
        named["step"] = part.step.weight
    if f.decay in ("channel", "bounded"):
        named["forget"] = part.forget.down.weight
    if f.erase == "key":
        named["removal"] = part.removal_gate.down.weight
    if f.out_gate != "none":
        named["gate"] = part.gate.weight
    whole = tape.multiply(x, list(named.values()), "wide")
    at, column = {}, 0
    for name, weight in named.items():
        at[name] = whole.after(column)
        column += len(weight)
    q = keys_and_queries(tape, part, at["qkv"])
    k, v = q.after(H * D), q.after((1 + n) * H * D)
    decay, dt = decays(tape, part, at)
    strength = at.get("beta") or dt
    if f.write == "beta":
        activation(tape, rows.SIGMOID, strength, n * H, strength)
        if f.beta_max != 1:
            tape.add(machine.SCALE, [n * H], out=strength, number=f.beta_max)
    r = p = NONE
    if f.erase == "key":
        r, p = removals(tape, part, at["removal"], k)
    tape.room_floats = max(tape.room_floats, aligned(D + V + 1 + D * V))
    how = {"none": 0, "fixed": 1, "learned": 1, "head": 2}.get(f.decay, 3)
    kind = {"none": 0, "delta": 1, "key": 2}[f.erase]
    o = tape.register("heads", H * V)
    ints = [H, D, V, n, tape.state(H * D * V), how, *decay, kind, *r, *p]
    ints += [int(f.write != "one"), *strength]
    tape.add(machine.RECUR, ints, a=q, b=k, c=v, out=o)
    last = v.after((n - 1) * H * V)
    if f.direct:
        share = tape.vector(D**-0.5 * part.direct)
        tape.add(machine.DIRECT, [H, V, share], a=last, out=o)
    if f.out_norm:
        heads_norm(tape, o, V, H, part.gain, 1e-5)
    if f.bonus:
        ints = [H, D, V, tape.vector(part.bonus)]
        tape.add(machine.BONUS, ints, a=q, b=k.after((n - 1) * H * D), c=last, out=o)
    return o, last, at.get("gate", NONE)


def keys_and_queries(tape: Tape, part: Any, x: Register) -> Register:
    """q, then the keys of all micro-steps, then the values."""
    f, H, D = part.fields, part.H, part.D
    if f.conv:
        out = tape.register("convolved", sum(part.sizes))
        convolution(tape, x, part.taps, out)
        x = out
        activation(tape, rows.SILU, x, sum(part.sizes), x)
    n_heads = (1 + f.n_steps) * H
    if f.feature in FEATURES:
        activation(tape, FEATURES[f.feature], x, n_heads * D, x)
    elif f.feature == "softmax":
        tape.add(machine.NORM, [D, n_heads, NOWHERE, NOWHERE, ops.SOFTMAX], a=x, out=x)
    if f.key_norm:
        tape.add(machine.NORM, [D, n_heads, NOWHERE, NOWHERE, ops.UNIT], a=x, out=x)
    if f.rotary:
        tape.add(machine.TURN, [D, n_heads, tape.turn_table(D, 10_000.0)], out=x)
    tape.add(machine.SCALE, [H * D], out=x, number=D**-0.5)
    return x


def decays(tape: Tape, part: Any, at: dict[str, Register]) -> tuple[Register, Register]:
    """Where the decays lie (a constant's place as its first number), and the steps dt."""
    f, H, D = part.fields, part.H, part.D
    if f.decay in ("fixed", "learned"):
        log = part.rates if f.decay == "fixed" else F.logsigmoid(part.rates)
        return Register(tape.vector(log.float().exp()), 0), NONE
    if f.decay == "none":
        return NONE, NONE
    if f.decay == "head":
        out = tape.register("decay", 2 * H)
        dt = out.after(H)
        ints = [H, tape.vector(part.log_rate.exp()), tape.vector(part.step_bias)]
        tape.add(machine.BY_HEAD, ints, a=at["step"], b=dt, out=out)
        return out, dt
    gate = low_rank(tape, part.forget, at["forget"], "decay")
    tape.add(machine.BY_CHANNEL, [H * D, int(f.decay == "bounded")], a=gate, out=gate)
    return gate, NONE


def removals(tape: Tape, part: Any, down: Register, k: Register) -> tuple[Register, Register]:
    H, D = part.H, part.D
    gate = low_rank(tape, part.removal_gate, down, "removal gate")
    r, p = tape.register("removal", H * D), tape.register("removed", H * D)
    ints = [H, D, tape.vector(part.removal), tape.vector(part.kept_key)]
    tape.add(machine.REMOVE, ints, a=k, b=gate, c=p, out=r)
    return r, p


def low_rank(tape: Tape, part: LowRank, down: Register, name: str) -> Register:
    if part.tanh:
        activation(tape, rows.TANH, down, part.down.out_features, down)
    return tape.multiply(down, [part.up.weight], name, part.up.bias)


def short_convolution(tape: Tape, part: Any, x: Register) -> Register:
    gate = tape.multiply(x, [part.gate.weight, part.value.weight], "wide")
    width = part.gate.out_features
    y = tape.register("convolved", width)
    convolution(tape, gate.after(width), part.filters, y)
    code = 0 if isinstance(part.act, nn.Identity) else rows.SILU
    activation(tape, code, y, width, y, gate)
    return tape.multiply(y, [part.out.weight], "y")


def multi_scale(tape: Tape, part: Any, x: Register) -> Register:
    if part.per_token is not None:
        raise InputError("multi_scale_fir with mix='token' has no exact kernel.")
    v = tape.multiply(x, [part.value.weight], "wide")
    y = tape.register("convolved", part.value.out_features)
    convolution(tape, v, part._one_filter(), y)
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
