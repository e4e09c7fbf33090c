"""The part with a matrix state as operations, whichever mixer of the family it is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mendel.parts.recurrent import LowRank
from mendel.parts.routed import N_LOGITS
from mendel.serve.numerics import machine, ops, routing, rows
from mendel.serve.numerics.pieces import activation, convolution, heads_norm
from mendel.serve.numerics.pool import aligned
from mendel.serve.numerics.tape import NONE, NOWHERE, Register, Tape
from mendel.serve.numerics.vectors import LANES

FEATURES = {"relu": rows.RELU, "silu": rows.SILU, "elu": rows.ELU1}


def recurrence(tape: Tape, part: Any, x: Register) -> Register:
    x = shifted(tape, part, x)
    f, H, D, V = part.fields, part.H, part.D, part.V
    o, q, k, v, at = paths(tape, part, x)
    if f.out_norm:
        heads_norm(tape, o, V, H, part.gain, 1e-5)
    if f.bonus:
        tape.add(machine.BONUS, [H, D, V, tape.vector(part.bonus)], a=q, b=k, c=v, out=o)
    if f.out_gate != "none":
        gate = at["gate"]
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


def routed(tape: Tape, part: Any, x: Register) -> Register:
    """Two filters of the values, the delta path, and the values, by the gate of each head."""
    f, delta = part.fields, part.delta
    H, V = delta.H, delta.V
    more = {"see": part.see.weight} | ({"factor": part.factor.weight} if f.rescale else {})
    o, _, _, v, at = paths(tape, delta, x, more)
    tape.add(machine.SCALE, [H * V], out=o, number=delta.D**0.5)
    near, far = tape.register("near", H * V), tape.register("far", H * V)
    convolution(tape, v, part.short, near)
    convolution(tape, v, part.long, far)
    fused, factor = tape.register("fused", H * V), at.get("factor", NONE)
    gate = list(N_LOGITS).index(f.gate)
    ints = [H, V, gate, tape.vector(_gate(part)), int(f.rescale), *v, *at["see"], *factor]
    tape.add(machine.ROUTE, ints, a=near, b=far, c=o, out=fused, number=f.floor)
    heads_norm(tape, fused, V, H, delta.gain, 1e-5)
    if f.rescale:
        tape.add(machine.BLEND, [H, V, 1, 0, 0], a=fused, b=factor, out=fused)
    return tape.multiply(fused, [delta.out.weight], "y")


def _gate(part: Any) -> Tensor:
    """The numbers of a route, each where the kernel looks for it."""
    numbers = torch.zeros(routing.HEATS + part.delta.H)
    feel, choose = part.feel.weight.float(), part.choose.weight.float()
    numbers[routing.FEEL : routing.FEEL + feel.numel()] = feel.flatten()
    numbers[routing.CHOOSE : routing.CHOOSE + choose.numel()] = choose.flatten()
    numbers[routing.BIAS : routing.BIAS + len(choose)] = part.choose.bias.float()
    if part.fields.rescale:
        numbers[routing.FACTOR : routing.FACTOR + 6] = part.factor_feel.weight.float()[0]
        numbers[routing.FACTOR + 6] = part.factor_feel.bias.float()
    if part.fields.gate == "softmax":
        numbers[routing.HEATS :] = part.log_temperature.exp().float()
    return numbers


class Paths(NamedTuple):
    """What the heads give, before their norm; q, and of the last micro-step k and v."""

    o: Register
    q: Register
    k: Register
    v: Register
    at: dict[str, Register]  # of the one product of the token, its columns by name


def paths(
    tape: Tape, part: Any, x: Register, more: Mapping[str, Tensor] = MappingProxyType({})
) -> Paths:
    """The state's way; `more` is multiplied with the token beside the part's own matrices."""
    f, H, D, V, n = part.fields, part.H, part.D, part.V, part.fields.n_steps
    named = {"qkv": part.qkv.weight, **more}
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
    wide = -(-V // LANES) * LANES  # of a row of the state, so that it fills the lanes
    room = LANES + 3 * D + (2 + D) * wide
    tape.room_floats = max(tape.room_floats, aligned(room))
    how = {"none": 0, "fixed": 1, "learned": 1, "head": 2}.get(f.decay, 3)
    kind = {"none": 0, "delta": 1, "key": 2}[f.erase]
    o = tape.register("heads", H * V)
    ints = [H, D, V, n, tape.state(H * D * wide), how, *decay, kind, *r, *p]
    ints += [int(f.write != "one"), *strength, wide]
    tape.add(machine.RECUR, ints, a=q, b=k, c=v, out=o)
    last = v.after((n - 1) * H * V)
    if f.direct:
        share = tape.vector(D**-0.5 * part.direct)
        tape.add(machine.DIRECT, [H, V, share], a=last, out=o)
    return Paths(o, q, k.after((n - 1) * H * D), last, at)


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
