"""How labels reach unlabelled rows: softmax regression on shares, a graph of neighbours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

Floats = NDArray[np.float32]

N_NEIGHBOURS = 10
BLOCK = 1024  # rows that are compared with all others at a time
N_STEPS = 30  # of the walk; what is left after it is 0.8^30 of the sum


def regress(
    rows: Floats, shares: Floats, weights: Floats, decay: float, begin: Floats | None = None
) -> Floats:
    """Softmax regression whose answers are shares, by L-BFGS.

    rows      (n, D), shares (n, K) that sum to 1, weights (n,)
    decay     weight of the sum of squares
    begin     (D + 1, K) to start from
    returns   (D + 1, K), the last row the bias
    """
    x = torch.from_numpy(_with_one(rows))
    wanted = torch.from_numpy(shares * weights[:, None])
    table = torch.zeros(x.shape[1], shares.shape[1])
    if begin is not None:
        table.copy_(torch.from_numpy(begin))
    table.requires_grad_()
    n_steps = 60 if begin is None else 30
    search = torch.optim.LBFGS(
        [table], max_iter=n_steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        loss = -(wanted * torch.log_softmax(x @ table, 1)).sum()
        loss = loss + decay * (table[:-1] ** 2).sum()
        loss.backward()
        return loss

    search.step(closure)
    found: Floats = table.detach().numpy()
    return found


def answers(rows: Floats, table: Floats, sharpness: float) -> Floats:
    """(n, K) shares that a regression gives; logits are multiplied by the sharpness."""
    return softmax(sharpness * (_with_one(rows) @ table))


def softmax(logits: Floats) -> Floats:
    """Rows that sum to 1."""
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True), np.float32)


def _with_one(rows: Floats) -> Floats:
    return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], 1)


def balanced(shares: Floats, prior: Floats, strength: float) -> Floats:
    """Shares whose mean is drawn towards the prior, so that no label swallows the others.

    strength   0 = as they are, 1 = the mean becomes the prior
    source     Sinkhorn 1967
    """
    for _ in range(10):
        mean = np.maximum(shares.mean(0), 1e-6)
        shares = shares * (prior / mean) ** strength
        shares = shares / shares.sum(1, keepdims=True)
    return shares


def neighbours(rows: Floats) -> csr_matrix:
    """(n, n) links of each row to those most like it: cosine^3, scaled by both rows' degrees.

    rows   (n, D) of length 1
    cost   n^2 D multiplications, memory for 1024 n numbers
    """
    n = len(rows)
    k = min(N_NEIGHBOURS, n - 1)
    nearest, weights = [], []
    for begin in range(0, n, BLOCK):
        likeness = rows[begin : begin + BLOCK] @ rows.T
        own = np.arange(len(likeness))
        likeness[own, own + begin] = -1
        chosen = np.argpartition(-likeness, k - 1, 1)[:, :k]
        nearest.append(chosen)
        weights.append(np.maximum(np.take_along_axis(likeness, chosen, 1), 0) ** 3)
    places = (np.repeat(np.arange(n), k), np.concatenate(nearest).ravel())
    links = csr_matrix((np.concatenate(weights).ravel(), places), shape=(n, n))
    links = links.maximum(links.T)
    scale = diags(1 / np.sqrt(np.maximum(np.asarray(links.sum(1)).ravel(), 1e-9)))
    return csr_matrix(scale @ links @ scale, dtype=np.float32)


def spread(links: csr_matrix, seeds: Floats, reach: float) -> Floats:
    """What each row gets when the seeds walk along the links; (n, K), not yet shares.

    reach    how much of a row's answer comes from its neighbours, below 1
    source   Zhou 2004, learning with local and global consistency
    """
    found = seeds
    for _ in range(N_STEPS):
        found = reach * (links @ found) + (1 - reach) * seeds
    return np.asarray(found, np.float32)
