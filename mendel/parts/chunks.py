"""The pieces of a chunked recurrence: decayed products, a triangular solve, a chain of states.

N = B*H*C chunks of L tokens, J = L * n_steps micro-steps. The pieces are autograd Functions because
the gradient of a transposed operand, left to autograd, comes out transposed and is copied; they
hold no state and generate their own vmap, so that many seeds can train in one run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


class Erased(NamedTuple):
    """What an erasure p r^T needs; with p = w k there is nothing apart."""

    minus_r_start: Tensor  # (N, J, D)
    p_end: Tensor  # (N, J, D)
    rp: Tensor  # (N, J, J)
    apart: tuple[Tensor, Tensor] | None  # qp (N, L, J) and rk (N, J, J)


class Decayed(NamedTuple):
    """A chunk's operands with the decay since its start or until its end, and its products M."""

    q_start: Tensor  # (N, L, D)
    k_end: Tensor  # (N, J, D)
    whole: Tensor | None  # (N | H*C, 1 | D, 1), the decay of the whole chunk
    qk: Tensor  # (N, L, J)
    erased: Erased | None


class Operands(NamedTuple):
    q: Tensor  # (N, L, D)
    k: Tensor  # (N, J, D), times w
    p: Tensor | None
    r: Tensor | None


class Factors(NamedTuple):
    """What q and r carry since the start of the chunk, k and p until its end, S throughout.

    The sign of -r is set here, where it costs nothing: no product is negated later or in backward.
    """

    start_q: Tensor | None = None
    minus_start_r: Tensor | None = None
    end: Tensor | None = None
    whole: Tensor | None = None


Product = Callable[[Tensor, Tensor, bool], Tensor]  # x, y, whether x is r -> M_xy


def decayed(x: Operands, log_decay: Tensor | None, n_steps: int) -> Decayed:
    """log_decay (N | H*C, L, 1 | D) or None."""
    sees = masks(x.q, x.k.shape[1], n_steps)
    if log_decay is None:
        return _assemble(x, Factors(), lambda a, b, is_r: _pair(a, b, mask=sees[is_r]))
    if log_decay.shape[-1] == 1:
        return _scalar(x, log_decay, n_steps, sees)
    return _channel(x, log_decay, n_steps, sees)


def _assemble(x: Operands, by: Factors, product: Product) -> Decayed:
    k_end, erased = times(x.k, by.end), None
    if x.r is not None:
        r_start = -x.r if by.minus_start_r is None else times(x.r, by.minus_start_r)
        if x.p is None:
            erased = Erased(r_start, k_end, product(x.r, x.k, True), None)
        else:
            apart = product(x.q, x.p, False), product(x.r, x.k, True)
            erased = Erased(r_start, times(x.p, by.end), product(x.r, x.p, True), apart)
    qk = product(x.q, x.k, False)
    return Decayed(times(x.q, by.start_q), k_end, by.whole, qk, erased)


def _scalar(x: Operands, log_decay: Tensor, n_steps: int, sees: tuple[Tensor, Tensor]) -> Decayed:
    """One number a head: M's decays come from differences, so that none can overflow."""
    step = F.pad(log_decay, (0, n_steps - 1)).flatten(1)  # (N | H*C, J)
    g = step.cumsum(1)
    g_q, g_r = g[:, n_steps - 1 :: n_steps], g - step
    by = Factors(
        g_q.exp()[..., None],
        None if x.r is None else -g_r.exp()[..., None],
        (g[:, -1:] - g).exp()[..., None],
        g[:, -1:, None].exp(),
    )
    return _assemble(
        x, by, lambda a, b, is_r: _pair(a, b, g_r if is_r else g_q, g, mask=sees[is_r])
    )


def _channel(x: Operands, log_decay: Tensor, n_steps: int, sees: tuple[Tensor, Tensor]) -> Decayed:
    """One number a channel: exp(g_t - g_s) = exp(g_t - m) exp(m - g_s), m in the chunk's middle.

    Above the diagonal, where nothing is read, the product of two such factors may overflow.
    """
    L, J = x.q.shape[1], x.k.shape[1]
    until = sees[0].new_ones(J, J).tril()[:, ::n_steps]  # (J, L): tokens decayed after micro-step j
    m = until[max(L // 2, 1) * n_steps - 1]
    rows = [until[n_steps - 1 :: n_steps] - m, m - until, m[None], until[-1:] - m, until[-1:]]
    if x.r is not None:
        rows.append(sees[1][:, ::n_steps] - m)
    sums = torch.cat(rows).expand(len(log_decay), -1, -1)  # a product is faster than cumsum
    factors = torch.bmm(sums, log_decay).exp().split([len(row) for row in rows], 1)
    e_q, e_k, start, end, whole = factors[:5]
    centred = Operands(
        x.q * e_q,
        x.k * e_k,
        None if x.p is None else x.p * e_k,
        None if x.r is None else x.r * factors[5],
    )
    return _assemble(
        centred,
        Factors(start, -start, end, whole.mT),
        lambda a, b, is_r: _pair(a, b, mask=sees[is_r], overflows=True),
    )


def masks(like: Tensor, n_micro: int, n_steps: int) -> tuple[Tensor, Tensor]:
    """A token reads all up to its last micro-step, an erasure sees what was before it."""
    below = torch.ones(n_micro, n_micro, dtype=like.dtype, device=like.device).tril()
    return below[n_steps - 1 :: n_steps], below.tril(-1)


def times(x: Tensor, y: Tensor | None) -> Tensor:
    """x (N, ...) * y (N | H*C | 1, ...): a decay that is fixed per head is shared by the batch."""
    if y is None:
        return x
    if y.shape[0] in (1, x.shape[0]):
        return x * y
    shared: Tensor = x.unflatten(0, (-1, y.shape[0])) * y
    return shared.flatten(0, 1)


def cut(x: Tensor, length: int, n_chunks: int) -> Tensor:
    """(B, H, T, ...) as (N, L, ...), zeros behind the end: they write, erase and decay nothing."""
    pad = length * n_chunks - x.shape[2]
    padded: Tensor = F.pad(x, (*(0, 0) * (x.dim() - 3), 0, pad)) if pad else x
    return padded.reshape(-1, length, *x.shape[3:])


def _apply(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)  # torch's own is untyped


def _pair(
    x: Tensor,
    y: Tensor,
    gx: Tensor | None = None,
    gy: Tensor | None = None,
    *,
    mask: Tensor,
    overflows: bool = False,
) -> Tensor:
    product: Tensor = _apply(Pair, x, y, gx, gy, mask, overflows)[0]
    return product


def outer(x: Tensor, y: Tensor) -> Tensor:
    """sum_t x_t y_t^T: (N, J, D), (N, J, V) -> (N, D, V)"""
    product: Tensor = _apply(Outer, x, y)
    return product


def solve(M: Tensor, R: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """(I + M)^-1 R and (I + M)^-1 V for M (N, J, J) strictly lower triangular."""
    W, Y, _ = _apply(Solve, M, R, V)
    return W, Y


def chain(
    a: Tensor | None, P: Tensor | None, W: Tensor | None, B: Tensor, S: Tensor
) -> tuple[Tensor, Tensor]:
    """S_(c+1) = (diag(a_c) + P_c^T W_c) S_c + B_c: the states that enter the chunks, and the last.

    a (N | H*C, D | 1, 1) or None = 1; P W (N, J, D) or None; B (N, D, V); S_0 (B*H, D, V)
    """
    states, last, _ = _apply(Chain, a, P, W, B, S)
    return states, last


class Pair(torch.autograd.Function):
    """M = (x y^T) * gate with gate = mask, or mask * exp(gx_t - gy_s) for gx, gy (N | H*C, L)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, y: Tensor, gx: Tensor | None, gy: Tensor | None, mask: Tensor, overflows: bool
    ) -> tuple[Tensor, Tensor]:
        gate = mask[None]
        if gx is not None and gy is not None:
            gate = (gx[:, :, None] - gy[:, None] + mask.log()).exp()  # masked before exp
        product = torch.bmm(x, y.mT)
        if overflows:  # inf * 0 is not 0
            return torch.where(mask > 0, product, 0), gate
        return (product.mul_(gate) if gx is None else times(product, gate)), gate

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:2], *output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor, _: None) -> tuple[Tensor | None, ...]:
        x, y, M, gate = ctx.saved_tensors
        dx = dy = dgx = dgy = None
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            dg = (d * M).unflatten(0, (-1, gate.shape[0]))
            dgx, dgy = dg.sum((0, 3)), -dg.sum((0, 2))
        d = times(d, gate)
        if ctx.needs_input_grad[0]:
            dx = torch.bmm(d, y)
        if ctx.needs_input_grad[1]:
            dy = torch.bmm(d.mT, x)
        return dx, dy, dgx, dgy, None, None


class Outer(torch.autograd.Function):
    """x^T y, see `outer`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.bmm(x.mT, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        return torch.bmm(y, d.mT), torch.bmm(x, d)


class Solve(torch.autograd.Function):
    """See `solve`; the third output is the inverse, kept for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(M: Tensor, R: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eye = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device).expand_as(M)
        X = torch.linalg.solve_triangular(M, eye, upper=False, unitriangular=True)
        return torch.bmm(X, R), torch.bmm(X, V), X

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*output)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, dW: Tensor | None, dY: Tensor, _: None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        W, Y, X = ctx.saved_tensors
        dV = torch.bmm(X.mT, dY)
        dM = torch.bmm(dV, Y.mT)
        dR = None
        if dW is not None:
            dR = torch.bmm(X.mT, dW)
            dM = torch.baddbmm(dM, dR, W.mT)
        return dM * -torch.ones_like(dM[0]).tril(-1), dR, dV


class Chain(torch.autograd.Function):
    """See `chain`; the third output is the matrix of each link, kept for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        a: Tensor | None, P: Tensor | None, W: Tensor | None, B: Tensor, S: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        diagonal, T = None if a is None else repeat(a, len(B)), None
        if P is not None and W is not None:
            eye = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
            T = torch.baddbmm(eye if diagonal is None else diagonal * eye, P.mT, W)
        states = links(diagonal if T is None else T, B, S)
        return torch.stack(states[:-1], 1).flatten(0, 1), states[-1], T

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, P, W, _, S = inputs
        states, _, T = output
        ctx.set_materialize_grads(False)
        if T is not None:
            ctx.mark_non_differentiable(T)
        ctx.S_shape = S.shape
        ctx.save_for_backward(a, P, W, states, T)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_states: Tensor | None, d_last: Tensor | None, _: None
    ) -> tuple[Tensor | None, ...]:
        a, P, W, states, T = ctx.saved_tensors
        if T is None and a is not None:
            T = repeat(a, len(states))
        d_states = torch.zeros_like(states) if d_states is None else d_states
        d_last = states.new_zeros(ctx.S_shape) if d_last is None else d_last
        *dB, dS = links(None if T is None else T.mT, d_states, d_last, back=True)
        d = torch.stack(dB[::-1], 1).flatten(0, 1)
        da = dP = dW = None
        if P is not None:
            dT = torch.bmm(d, states.mT)
            da = dT.diagonal(dim1=1, dim2=2)[..., None]
            dP, dW = torch.bmm(W, dT.mT), torch.bmm(P, dT)
        if a is not None:
            da = (d * states).sum(-1, keepdim=True) if da is None else da
            da = da.sum(1, keepdim=True) if a.shape[1] == 1 else da
            da = da.unflatten(0, (-1, len(a))).sum(0)
        return None if a is None else da, dP, dW, d, dS


def links(T: Tensor | None, B: Tensor, S: Tensor, *, back: bool = False) -> list[Tensor]:
    """S, T_0 S + B_0, and so on through the chunks of each chain; back: from the last to the first.

    T (N, D, D) a matrix, (N, D | 1, 1) a diagonal or None = 1; B (N, D, V); S (B*H, D, V)
    """
    n_chunks = len(B) // len(S)
    adds = B.unflatten(0, (-1, n_chunks)).unbind(1)
    gains = (None,) * n_chunks if T is None else T.unflatten(0, (-1, n_chunks)).unbind(1)
    states = [S]
    for c in reversed(range(n_chunks)) if back else range(n_chunks):
        gain = gains[c]
        if gain is None:
            S = adds[c] + S
        elif 1 in gain.shape[1:]:
            S = torch.addcmul(adds[c], gain.mT if back else gain, S)
        else:
            S = torch.baddbmm(adds[c], gain, S)
        states.append(S)
    return states


def repeat(x: Tensor, n: int) -> Tensor:
    """(M, ...) to (n, ...), M a divisor of n: the batch shares what is fixed per head."""
    return x if len(x) == n else x.expand(n // len(x), *x.shape).flatten(0, 1)
