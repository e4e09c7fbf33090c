"""One recurrence, the field's linear-time mixers: a matrix state, decayed, erased, written.

    S_t = (A_t - p_t r_t^T) S_(t-1) + w_t k_t v_t^T          o_t = S_t^T q_t

Per head; S is D x V, A_t = diag(a_t) with a in (0, 1]. `scan_naive` is that line in a loop and
`scan` the same function in chunks. How named mixers tie the fields (b = write strength, |k| = 1):

    linear attention   nothing                         DeltaNet        write=b, erase=k
    RetNet             log_decay (H,)                  Gated DeltaNet  log_decay, write=b, erase=a k
    Mamba-2            log_decay (B,H,T), write=dt     DeltaProduct    the same with n_steps=2, 3
    GLA                log_decay (B,H,T,D)             RWKV-7          log_decay, erase=(p, r)

A lone `erase=r` means p = w k, what is written is the error: S_t = A_t S + w k (v - S^T r)^T. The
pair says the same, (b k, k) for DeltaNet, and costs about half as much again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mendel.parts.chunks import Decayed, Erased, Operands, chain, cut, decayed, outer, solve

MIN_CHANNEL_DECAY = 1e-4  # per token; half a chunk of them, 1e-32, must fit a float32
CHUNK = {"none": 32, "scalar": 32, "channel": 16}  # micro-steps, the fastest measured
SEGMENT = 2**18  # numbers of k at a time; more leave the cache, fewer cost calls

Erase = Tensor | tuple[Tensor, Tensor] | None


def scan_naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay: Tensor | None = None,
    erase: Erase = None,
    write: Tensor | None = None,
    state: Tensor | None = None,
    n_steps: int = 1,
) -> tuple[Tensor, Tensor]:
    """The definition: `scan` as a loop over time; arguments and returns as there."""
    x = _Fields.of(q, k, v, log_decay, erase, write, state)
    S = x.initial_state()
    outputs = []
    for t in range(q.shape[2]):
        for j in range(t * n_steps, (t + 1) * n_steps):
            k_j, v_j = x.k[:, :, j, :, None], x.v[:, :, j, None]
            w_k = k_j if x.write is None else x.write[:, :, j, None, None] * k_j
            new = w_k * v_j
            if x.r is not None:
                p_j = w_k if x.p is None else x.p[:, :, j, :, None]
                new = new - p_j * (x.r[:, :, j, None] @ S)
            if x.log_decay is not None and j == t * n_steps:
                S = x.log_decay[:, :, t, :, None].exp() * S
            S = S + new
        outputs.append((x.q[:, :, t, None] @ S)[:, :, 0])
    return torch.stack(outputs, 2).to(q.dtype), S


def scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    log_decay: Tensor | None = None,
    erase: Erase = None,
    write: Tensor | None = None,
    state: Tensor | None = None,
    n_steps: int = 1,
) -> tuple[Tensor, Tensor]:
    """A matrix state per head that is decayed, partly erased, written and read at each token.

    q          (B, H, T, D); any scale is the caller's
    k v        (B, H, T*n_steps, D) and (..., V): n_steps micro-steps a token, read after the last
    log_decay  None | (H,) fixed | (B, H, T) from the data | (B, H, T, D) per channel; <= 0; in a
               token's first micro-step. Per channel a decay below 1e-4 counts as 1e-4
    erase      None | (p, r), each as k | r alone, then p = write * k
    write      None (= 1) | (B, H, T*n_steps)
    state      None (zeros) | (B, H, D, V)
    returns    (B, H, T, V) in q's dtype, and the final state, float32 (float64 from float64)
    cost       linear in T; test_recurrence.py has the formula, `mendel parts` measures it
    source     Yang 2024 (DeltaNet, WY form), Peng 2025 (RWKV-7); equals scan_naive to 1e-10
    """
    x = _Fields.of(q, k, v, log_decay, erase, write, state)
    run = _step if q.shape[2] == 1 and n_steps == 1 else _segmented
    if torch.is_autocast_enabled(q.device.type):  # it would round the products to bfloat16
        with torch.autocast(q.device.type, enabled=False):
            out, final = run(x, n_steps)
    else:
        out, final = run(x, n_steps)
    return out if out.dtype == q.dtype else out.to(q.dtype), final


class _Fields(NamedTuple):
    """The arguments of `scan` in the dtype of the arithmetic."""

    q: Tensor
    k: Tensor
    v: Tensor
    log_decay: Tensor | None  # (1 | B, H, T, 1 | D)
    p: Tensor | None
    r: Tensor | None
    write: Tensor | None
    state: Tensor | None

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        log_decay: Tensor | None,
        erase: Erase,
        write: Tensor | None,
        state: Tensor | None,
    ) -> _Fields:
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        p, r = erase if isinstance(erase, tuple) else (None, erase)
        decay = _per_token(log_decay, q.shape[2])
        x = cls(q, k, v, decay, p, r, write, state)
        if all(f is None or f.dtype == dtype for f in x):
            return x
        return cls(*(f if f is None else f.to(dtype) for f in x))  # type: ignore[arg-type]

    def initial_state(self) -> Tensor:
        if self.state is not None:
            return self.state
        return self.q.new_zeros(*self.q.shape[:2], self.q.shape[3], self.v.shape[3])


def _per_token(log_decay: Tensor | None, n_tokens: int) -> Tensor | None:
    """(H,) or (B, H, T) or (B, H, T, D) as (1 | B, H, T, 1 | D)."""
    if log_decay is None:
        return None
    if log_decay.dim() == 4:
        return log_decay.clamp(min=math.log(MIN_CHANNEL_DECAY))
    if log_decay.dim() == 1:
        log_decay = log_decay[None, :, None].expand(1, -1, n_tokens)
    return log_decay[..., None]


def _step(x: _Fields, _: int) -> tuple[Tensor, Tensor]:
    """One token, for generation: few calls, nothing chunked."""
    v, S = x.v, x.state
    k = x.k if x.write is None else x.k * x.write[..., None]
    if S is None:
        S = k.mT * v
        return x.q @ S, S
    decayed = S if x.log_decay is None else S * x.log_decay.exp().mT
    if x.p is not None and x.r is not None:
        decayed = torch.addcmul(decayed, x.p.mT, x.r @ S, value=-1)
    elif x.r is not None:
        v = v - x.r @ S
    S = torch.addcmul(decayed, k.mT, v)
    return x.q @ S, S


def _segmented(x: _Fields, n_steps: int) -> tuple[Tensor, Tensor]:
    """Long sequences a stretch at a time, so that what a stretch needs stays in the cache."""
    n_batch, n_head, n_tokens, width = x.q.shape
    length = _chunk_length(x, n_steps)
    n_chunks = max(SEGMENT // (n_batch * n_head * length * n_steps * width), 1)
    n_parts = -(-n_tokens // (n_chunks * length))
    if n_parts == 1:
        return _chunked(x, n_steps, length)
    size = -(-n_tokens // (n_parts * length)) * length
    n_parts = -(-n_tokens // size)
    tokens = (_split(f, size, n_parts) for f in (x.q, x.log_decay))
    micro = (_split(f, size * n_steps, n_parts) for f in (x.k, x.v, x.p, x.r, x.write))
    outputs, S = [], x.state
    for q, decay, k, v, p, r, w in zip(*tokens, *micro, strict=True):
        part = _Fields(q, k, v, decay, p, r, w, S)
        out, S = _chunked(part, n_steps, length)
        outputs.append(out)
    assert S is not None
    return torch.cat(outputs, 2), S


def _split(x: Tensor | None, size: int, n_parts: int) -> tuple[Tensor | None, ...]:
    return (None,) * n_parts if x is None else x.split(size, 2)


def _chunk_length(x: _Fields, n_steps: int) -> int:
    """Tokens: the fastest measured, or a little less where that leaves less to pad."""
    kind = "none"
    if x.log_decay is not None:
        kind = "scalar" if x.log_decay.shape[-1] == 1 else "channel"
    longest = CHUNK[kind] if x.r is None else max(CHUNK[kind] // n_steps, 1)
    n_chunks = -(-x.q.shape[2] // longest)
    return -(-x.q.shape[2] // n_chunks)


def _chunked(x: _Fields, n_steps: int, length: int) -> tuple[Tensor, Tensor]:
    """Chunks in parallel, a chain of their states between.

    With u_t = -r_t^T S_(t-1) for the micro-steps of a chunk that is entered with S, and
    M_xy[t,s] = sum_d x_t[d] y_s[d] exp(log decay from s to t)[d], lower triangular:

        (I + M_rp) U = -R S - M_rk V             R, Q carry the decay since the chunk's start,
        O  = Q S + M_qk V + M_qp U               K, P the decay until its end, G all of it
        S' = G S + K^T V + P^T U   = (G + P^T W) S + (K^T V + P^T Y),   U = W S + Y

    With p = w k, Z = V + U is the only unknown, (I + M_rk) Z = V - R S, and two of the four M go.
    """
    n_batch, n_head, n_tokens, _ = x.q.shape
    n_chunks = -(-n_tokens // length)
    q, decay = cut(x.q, length, n_chunks), _cut(x.log_decay, length, n_chunks)
    k, v = (cut(f, length * n_steps, n_chunks) for f in (x.k, x.v))
    p, r, w = (_cut(f, length * n_steps, n_chunks) for f in (x.p, x.r, x.write))
    g = decayed(Operands(q, k if w is None else k * w[..., None], p, r), decay, n_steps)
    W, z, u = (None, v, None) if g.erased is None else _solved(g.erased, v)
    P = None if g.erased is None else g.erased.p_end
    add = outer(g.k_end, z)
    if P is not None and u is not None:
        add = add + outer(P, u)
    S, final = None, add  # of a first and only chunk
    if n_chunks > 1 or x.state is not None:
        S, final = chain(g.whole, P, W, add, x.initial_state().flatten(0, 1))
    out = _read(g, W, z, u, S).reshape(n_batch, n_head, n_chunks * length, -1)
    return out[:, :, :n_tokens], final.unflatten(0, (n_batch, n_head))


def _solved(e: Erased, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """W, and what chunks that are entered with S = 0 write with k (Z or V) and with p (Y)."""
    if e.apart is None:
        return *solve(e.rp, e.minus_r_start, v), None
    W, u = solve(e.rp, e.minus_r_start, -torch.bmm(e.apart[1], v))
    return W, v, u


def _read(g: Decayed, W: Tensor | None, z: Tensor, u: Tensor | None, S: Tensor | None) -> Tensor:
    """O, the outputs of chunks that are entered with S, None = 0."""
    if S is not None and W is not None:
        if u is None:
            z = torch.baddbmm(z, W, S)
        else:
            u = torch.baddbmm(u, W, S)
    out = torch.bmm(g.qk, z)
    if u is not None and g.erased is not None and g.erased.apart is not None:
        out = torch.baddbmm(out, g.erased.apart[0], u)
    return out if S is None else torch.baddbmm(out, g.q_start, S)


def _cut(x: Tensor | None, length: int, n_chunks: int) -> Tensor | None:
    return None if x is None else cut(x, length, n_chunks)
