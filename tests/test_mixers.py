"""Each named mixer of the menu against a plain loop written from its paper, in numpy.

x -> the part                               (torch, chunks and FFT, or its naive twin)
x -> the paper's equation of the state      (numpy, one head and one token at a time)

Papers write the state keys x values (K x V) or values x keys (V x K); each loop keeps its paper's.
All of the part's weights are random: at their initial values many would be neutral.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import mendel.parts.menu  # noqa: F401
from mendel.parts.part import Part, make
from mendel.spec import PartSpec

pytestmark = pytest.mark.usefixtures("one_thread")

B, T, C, H, D, V = 2, 8, 12, 3, 4, 5  # texts, tokens, width, heads, rows and columns of a state
SIZES = {"n_heads": H, "key_dim": D, "value_dim": V}

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]
Step = Callable[[Array, int, int], tuple[Array, Array]]  # S, t, h -> S', what is read


def random_part(name: str, seed: int = 0, **fields: Any) -> Part:
    """A mixer in float64 of which no weight has a value that hides it."""
    torch.manual_seed(seed)
    part: Part = make("mixer", PartSpec(part=name, fields=fields), C)
    part.double()
    for weight in part.parameters():
        fan_in = weight.shape[1] if weight.dim() == 2 else 1
        torch.nn.init.normal_(weight, std=fan_in**-0.5)
    return part


def text(seed: int = 1) -> Tensor:
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights_of(part: Part) -> Weights:
    return {name: weight.detach().numpy() for name, weight in part.named_parameters()}


def assert_is(part: Part, reference: Callable[..., Array], tolerance: float, **how: Any) -> None:
    """Both paths of the part give what the loop gives for each text alone."""
    x, w = text(), weights_of(part)
    want = np.stack([reference(w, one.numpy(), **how) for one in x])
    for naive in (False, True):
        with torch.no_grad():
            got = part(x, naive=naive)[0].numpy()
        assert np.abs(want).max() > 0.1
        assert np.abs(got - want).max() < tolerance, f"naive={naive}"


# what the layers share, from its definitions


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def softplus(x: Array) -> Array:
    return np.log(1 + np.exp(x))


def softmax(x: Array) -> Array:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def gelu(x: Array) -> Array:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def unit(x: Array) -> Array:
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-6)


def rms_norm(x: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def moments(x: Array) -> Array:
    return np.stack([x.mean(-1), np.sqrt(x.var(-1) + 1e-6)], -1)


def fir(x: Array, taps: Array) -> Array:
    """y[t] = sum over s of taps[s ago] x[t - s]; the last tap is of now."""
    y = np.zeros_like(x)
    for t in range(len(x)):
        for ago in range(min(t + 1, taps.shape[1])):
            y[t] += taps[:, -1 - ago] * x[t - ago]
    return y


def turned(x: Array) -> Array:
    """Rotary positions: the pair (i, i + D/2) is a complex number, turned by t 10000^(-2i/D)."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None, None] * 10_000.0 ** (-np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag], -1)


def low_rank(w: Weights, name: str, x: Array, f: Callable[[Array], Array] = np.asarray) -> Array:
    low = f(x @ w[f"{name}.down.weight"].T)
    return (low @ w[f"{name}.up.weight"].T + w[f"{name}.up.bias"]).reshape(len(x), H, D)


def qkv(w: Weights, x: Array, n_steps: int = 1) -> tuple[Array, Array, Array]:
    """q (T, H, D) over the root of D, k (T*n, H, D), v (T*n, H, V), after the short filter."""
    y = x @ w["qkv.weight"].T
    if "taps" in w:
        y = silu(fir(y, w["taps"]))
    q, k, v = np.split(y, [H * D, H * D * (1 + n_steps)], 1)
    n = len(x) * n_steps
    return q.reshape(-1, H, D) / math.sqrt(D), k.reshape(n, H, D), v.reshape(n, H, -1)


def unit_qkv(w: Weights, x: Array, n_steps: int = 1) -> tuple[Array, Array, Array]:
    q, k, v = qkv(w, x, n_steps)
    return unit(q * math.sqrt(D)) / math.sqrt(D), unit(k), v


def loop(step: Step, rows: int, columns: int) -> Array:
    """What each head reads of its state, which starts at zero: (T, H, V)."""
    heads = []
    for h in range(H):
        S, read = np.zeros((rows, columns)), []
        for t in range(T):
            S, o = step(S, t, h)
            read.append(o)
        heads.append(np.stack(read))
    return np.stack(heads, 1)


def normed(w: Weights, o: Array) -> Array:
    return rms_norm(o) * w["gain"]


def out(w: Weights, o: Array) -> Array:
    return o.reshape(len(o), -1) @ w["out.weight"].T


def gated(w: Weights, o: Array, x: Array, act: Callable[[Array], Array]) -> Array:
    return out(w, o.reshape(len(o), -1) * act(x @ w["gate.weight"].T))


def mamba_decay(w: Weights, x: Array) -> tuple[Array, Array]:
    """exp(-e^A dt) and dt, both (T, H)."""
    dt = softplus(x @ w["step.weight"].T + w["step_bias"])
    return np.exp(-np.exp(w["log_rate"]) * dt), dt


# the papers


PHI: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "silu": silu,
    "elu": lambda x: np.where(x > 0, x + 1, np.exp(x)),
    "softmax": softmax,
}


def linear_attention(w: Weights, x: Array, feature: str = "elu") -> Array:
    """Katharopoulos 2020, without its sum of weights: S = S + phi(k) v^T, o = S^T phi(q)."""
    q, k, v = qkv(w, x)
    q, k = PHI[feature](q * math.sqrt(D)) / math.sqrt(D), PHI[feature](k)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        S = S + np.outer(k[t, h], v[t, h])
        return S, S.T @ q[t, h]

    return out(w, normed(w, loop(step, D, V)))


def retnet(w: Weights, x: Array) -> Array:
    """Sun 2023, parallel form: o_t = sum over s <= t of gamma^(t-s) (q_t . k_s) v_s."""
    q, k, v = qkv(w, x)
    q, k, o = turned(q), turned(k), np.zeros((T, H, V))
    for h in range(H):
        gamma = 1 - 2.0 ** (-5 - h)
        for t in range(T):
            for s in range(t + 1):
                o[t, h] += gamma ** (t - s) * (q[t, h] @ k[s, h]) * v[s, h]
    return gated(w, normed(w, o), x, silu)


def gla(w: Weights, x: Array) -> Array:
    """Yang 2023: S = diag(a) S + k v^T, a = sigmoid(x W1 W2 + b)^(1/16)."""
    q, k, v = qkv(w, x)
    a = sigmoid(low_rank(w, "forget", x)) ** (1 / 16)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        S = np.diag(a[t, h]) @ S + np.outer(k[t, h], v[t, h])
        return S, S.T @ q[t, h]

    return gated(w, normed(w, loop(step, D, V)), x, silu)


def mamba2(w: Weights, x: Array) -> Array:
    """Dao 2024: h = exp(-e^A dt) h + dt B x^T, y = C h + D x; C, B, x are our q, k, v."""
    c, b, u = qkv(w, x)
    a, dt = mamba_decay(w, x)
    skip = w["direct"] / math.sqrt(D)  # C has this factor, so that the norm takes both alike

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        S = a[t, h] * S + dt[t, h] * np.outer(b[t, h], u[t, h])
        return S, c[t, h] @ S + skip[h] * u[t, h]

    return gated(w, normed(w, loop(step, D, V)), x, silu)


def delta_net(w: Weights, x: Array, beta_max: float = 1.0) -> Array:
    """Yang 2024: S = S - b (S k - v) k^T, V x K; b in (0, 2) after Grazzi 2024."""
    q, k, v = unit_qkv(w, x)
    b = beta_max * sigmoid(x @ w["beta.weight"].T)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        S = S - b[t, h] * np.outer(S @ k[t, h] - v[t, h], k[t, h])
        return S, S @ q[t, h]

    return out(w, normed(w, loop(step, V, D)))


def gated_delta_net(w: Weights, x: Array) -> Array:
    """Yang 2025: S = S (a (I - b k k^T)) + b v k^T, V x K; a is Mamba-2's."""
    q, k, v = unit_qkv(w, x)
    a, b = mamba_decay(w, x)[0], sigmoid(x @ w["beta.weight"].T)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        K, b_t = k[t, h], b[t, h]
        S = S @ (a[t, h] * (np.eye(D) - b_t * np.outer(K, K))) + b_t * np.outer(v[t, h], K)
        return S, S @ q[t, h]

    return gated(w, normed(w, loop(step, V, D)), x, silu)


def kimi_delta(w: Weights, x: Array) -> Array:
    """Kimi 2025: S = (I - b k k^T) Diag(a) S + b k v^T; a is GLA's here."""
    q, k, v = unit_qkv(w, x)
    a, b = sigmoid(low_rank(w, "forget", x)) ** (1 / 16), sigmoid(x @ w["beta.weight"].T)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        K, b_t = k[t, h], b[t, h]
        S = (np.eye(D) - b_t * np.outer(K, K)) @ np.diag(a[t, h]) @ S + b_t * np.outer(K, v[t, h])
        return S, S.T @ q[t, h]

    return gated(w, normed(w, loop(step, D, V)), x, sigmoid)


def delta_product(w: Weights, x: Array, n_steps: int = 2, decay: str = "none") -> Array:
    """Siems 2025: S = (prod_j I - b_j k_j k_j^T) a S + sum_j (prod_(i>j) ...) b_j k_j v_j^T."""
    q, k, v = unit_qkv(w, x, n_steps)
    b = 2 * sigmoid(x @ w["beta.weight"].T).reshape(-1, H)
    a = np.ones((T, H, D))
    if decay == "head":
        a = a * mamba_decay(w, x)[0][..., None]
    elif decay == "channel":
        a = sigmoid(low_rank(w, "forget", x)) ** (1 / 16)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        transition, new = np.diag(a[t, h]), np.zeros_like(S)
        for j in range(t * n_steps, (t + 1) * n_steps):
            householder = np.eye(D) - b[j, h] * np.outer(k[j, h], k[j, h])
            transition = householder @ transition
            new = householder @ new + b[j, h] * np.outer(k[j, h], v[j, h])
        S = transition @ S + new
        return S, S.T @ q[t, h]

    return out(w, normed(w, loop(step, D, V)))


def rwkv7(w: Weights, x: Array) -> Array:
    """Peng 2025, V x K: S = S (diag(w) - k^ (a * k^)^T) + v k~^T, o = S r + (r . u k~) v.

    k^ is the unit removal key k * xi, k~ = k (1 + (a - 1) alpha) the key that is written
    """
    x = x + w["shift"] * (np.concatenate([np.zeros((1, C)), x[:-1]]) - x)
    r, k, v = qkv(w, x)
    a = sigmoid(low_rank(w, "removal_gate", x))
    decay = np.exp(-math.exp(-0.5) * sigmoid(low_rank(w, "forget", x, np.tanh)))
    removal, kept = unit(k * w["removal"]), k * (1 + (a - 1) * w["kept_key"])

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        erased = np.outer(removal[t, h], a[t, h] * removal[t, h])
        S = S @ (np.diag(decay[t, h]) - erased) + np.outer(v[t, h], kept[t, h])
        return S, S @ r[t, h]

    past = (r * w["bonus"] * kept).sum(-1, keepdims=True) * v
    return gated(w, normed(w, loop(step, V, D)) + past, x, sigmoid)


PAPERS: dict[str, Callable[..., Array]] = {
    "linear_attention": linear_attention,
    "retnet": retnet,
    "gla": gla,
    "mamba2": mamba2,
    "delta_net": delta_net,
    "delta_net_signed": lambda w, x: delta_net(w, x, beta_max=2),
    "gated_delta_net": gated_delta_net,
    "kimi_delta": kimi_delta,
    "delta_product": delta_product,
    "rwkv7": rwkv7,
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_named_mixer_is_its_papers_equation(name: str) -> None:
    # the part keeps the log of RetNet's gamma in float32
    tolerance = 1e-7 if name == "retnet" else 1e-9
    assert_is(random_part(name, **SIZES), PAPERS[name], tolerance)


@pytest.mark.parametrize("feature", PHI)
def test_a_feature_map_is_of_queries_and_keys(feature: str) -> None:
    part = random_part("linear_attention", feature=feature, **SIZES)
    assert_is(part, linear_attention, 1e-9, feature=feature)


@pytest.mark.parametrize("decay", ["head", "channel"])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_a_decayed_product_of_householders_decays_once_a_token(n_steps: int, decay: str) -> None:
    how: dict[str, Any] = {"n_steps": n_steps, "decay": decay}
    assert_is(random_part("delta_product", **SIZES, **how), delta_product, 1e-9, **how)


# the routed mixers


ROUTED = {
    "content_sharp_router": "softmax",
    "fusion_gated_fir": "sigmoid",
    "path_gated_fusion": "floor",
    "hierarchical_gate": "staged",
}
DISTRIBUTIONS = [name for name, gate in ROUTED.items() if gate != "sigmoid"]


def shares(gate: str, logits: Array, sharpness: float, floor: float) -> Array:
    """Of the short filter, the long one, the delta path and the value, in this order."""
    if gate == "sigmoid":
        return 0.02 + 0.98 * sigmoid(logits)
    if gate == "floor":
        return floor + (1 - 4 * floor) * softmax(logits)
    if gate == "softmax":
        return softmax(sharpness * logits)
    local = sigmoid(logits[0])
    return np.concatenate([local * softmax(logits[1:3]), (1 - local) * softmax(logits[3:5])])


def routed(w: Weights, x: Array, gate: str, beta_max: float = 1, floor: float = 0.02) -> Array:
    """DESIGN.md's account of ASI-Arch's winners, a token and a head at a time."""
    of_delta = {name.removeprefix("delta."): value for name, value in w.items()}
    q, k, v = unit_qkv(of_delta, x)
    b = beta_max * sigmoid(x @ w["delta.beta.weight"].T)
    kept = sigmoid(w["delta.rates"]) if gate == "sigmoid" else np.ones(H)

    def step(S: Array, t: int, h: int) -> tuple[Array, Array]:
        S = kept[h] * S
        S = S - b[t, h] * np.outer(k[t, h], k[t, h] @ S - v[t, h])
        return S, q[t, h] @ S

    short, long = (fir(v.reshape(T, -1), w[name]).reshape(v.shape) for name in ("short", "long"))
    delta = math.sqrt(D) * loop(step, D, D)  # of q of unit length
    branches = np.stack([short, long, delta, v], 2)  # (T, H, 4, D)
    see, y = w["see.weight"].reshape(H, -1, C), np.zeros_like(v)
    for t, h in np.ndindex(T, H):
        hidden = gelu(see[h] @ x[t] + w["feel.weight"] @ moments(branches[t, h]).ravel())
        logits = w["choose.weight"] @ hidden + w["choose.bias"]
        sharpness = math.exp(w["log_temperature"][h]) if gate == "softmax" else 1.0
        p = shares(gate, logits, sharpness, floor)
        fused = p @ branches[t, h]
        y[t, h] = normed(of_delta, fused)
        if gate == "floor":
            felt = w["factor_feel.weight"][0] @ np.concatenate([moments(fused), p])
            token = w["factor.weight"][h] @ x[t]
            y[t, h] *= 4 * sigmoid(token + felt + w["factor_feel.bias"][0])
    return out(of_delta, y)


@pytest.mark.parametrize("fields", [{}, {"short": 2, "long": 5, "beta_max": 2.0, "floor": 0.1}])
@pytest.mark.parametrize("name", ROUTED)
def test_a_routed_mixer_is_the_weighted_sum_of_its_branches(
    name: str, fields: dict[str, Any]
) -> None:
    part = random_part(name, n_heads=H, **fields)
    how = {key: fields[key] for key in ("beta_max", "floor") if key in fields}
    assert_is(part, routed, 1e-9, gate=ROUTED[name], **how)


def seen_by_the_gate(part: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The branches and their weights, (B, T, H, 4, D) and (B, T, H, 4), of a call on a text."""
    inner, seen = part._weights, []

    def spy(x: Tensor, branches: Tensor) -> Tensor:
        seen.extend([branches, inner(x, branches)])
        return seen[1]

    part._weights = spy
    with torch.no_grad():
        part(x)
    del part._weights
    return seen[0], seen[1]


@torch.no_grad()
def set_logits(part: Any, bias: list[float]) -> None:
    """The gate's logits are the same for every token and head."""
    part.choose.weight.zero_()
    part.choose.bias.copy_(torch.tensor(bias))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_shares_of_the_branches_are_a_distribution(name: str) -> None:
    for seed in range(5):
        shares = seen_by_the_gate(random_part(name, seed, n_heads=H), text(seed))[1]
        assert shares.shape == (B, T, H, 4)
        assert (shares > 0).all()
        assert (shares.sum(-1) - 1).abs().max() < 1e-12
        assert shares.std((0, 1)).amax(-1).min() > 1e-3  # of every token its own


@pytest.mark.parametrize("name", ROUTED)
def test_at_a_zero_gate_the_branches_weigh_the_same(name: str) -> None:
    part = random_part(name, n_heads=H)
    set_logits(part, [0.0] * part.choose.out_features)
    weights = seen_by_the_gate(part, text())[1]
    equal = 0.51 if ROUTED[name] == "sigmoid" else 0.25
    assert (weights - equal).abs().max() < 1e-15


@pytest.mark.parametrize("floor", [0.02, 0.1, 0.2])
def test_no_branch_gets_less_than_the_floor(floor: float) -> None:
    part = random_part("path_gated_fusion", n_heads=H, floor=floor)
    assert seen_by_the_gate(part, 10 * text())[1].min() >= floor
    set_logits(part, [0.0, 100.0, 0.0, 0.0])
    want = torch.tensor([floor, 1 - 3 * floor, floor, floor], dtype=torch.float64)
    assert (seen_by_the_gate(part, text())[1] - want).abs().max() < 1e-12


def test_independent_gates_lie_between_a_fiftieth_and_one() -> None:
    part = random_part("fusion_gated_fir", n_heads=H)
    weights = seen_by_the_gate(part, 10 * text())[1]
    assert weights.min() >= 0.02 and weights.max() <= 1
    set_logits(part, [-100.0, 100.0, 100.0, 0.0])
    want = torch.tensor([0.02, 1, 1, 0.51], dtype=torch.float64)
    assert (seen_by_the_gate(part, text())[1] - want).abs().max() < 1e-12


def test_a_heads_temperature_sharpens_its_own_shares() -> None:
    part: Any = random_part("content_sharp_router", n_heads=H)
    torch.nn.init.zeros_(part.log_temperature)
    before = seen_by_the_gate(part, text())[1]
    last = before
    for times in (2.0, 8.0, 1e4):
        with torch.no_grad():
            part.log_temperature[1] = math.log(times)
        shares = seen_by_the_gate(part, text())[1]
        assert torch.equal(shares[:, :, [0, 2]], before[:, :, [0, 2]])
        assert (shares.amax(-1) >= last.amax(-1))[:, :, 1].all()
        powers = before[:, :, 1].log().mul(times).softmax(-1)
        assert (shares[:, :, 1] - powers).abs().max() < 1e-9
        last = shares
    assert last[:, :, 1].amax(-1).median() > 0.999


def test_the_first_stage_divides_between_local_and_global_and_the_second_inside_each() -> None:
    part = random_part("hierarchical_gate", n_heads=H)
    set_logits(part, [math.log(3), math.log(4), 0.0, 0.0, math.log(9)])  # 3:1, then 4:1 and 1:9
    want = torch.tensor([0.75 * 0.8, 0.75 * 0.2, 0.25 * 0.1, 0.25 * 0.9], dtype=torch.float64)
    assert (seen_by_the_gate(part, text())[1] - want).abs().max() < 1e-7  # the logs are float32


@pytest.mark.parametrize("name", ROUTED)
def test_the_filters_pass_the_values_through_at_the_start(name: str) -> None:
    part: Part = make("mixer", PartSpec(part=name, fields={"n_heads": H}), C).double()
    short, long, delta, value = seen_by_the_gate(part, text())[0].unbind(3)
    assert (short - value).abs().max() < 1e-12
    assert (long - value).abs().max() < 1e-12
    assert (delta - value).abs().max() > 0.1


def factors(part: Any, x: Tensor) -> Tensor:
    """(B, T, H) by which each head's output is multiplied in a call on a text."""
    inner, seen = part._factor, []

    def spy(*of: Tensor) -> Tensor:
        seen.append(inner(*of))
        return seen[-1]

    part._factor = spy
    with torch.no_grad():
        part(x)
    del part._factor
    return seen[0][..., 0]


def test_the_factor_is_one_at_the_start_and_stays_between_zero_and_four() -> None:
    part: Any = make("mixer", PartSpec(part="path_gated_fusion", fields={"n_heads": H}), C)
    assert (factors(part, text().float()) - 1).abs().max() < 1e-6  # float32's rounding
    part = random_part("path_gated_fusion", n_heads=H)
    assert factors(part, text()).std((0, 1)).min() > 0.1  # of every token and head its own
    wide = factors(part, 20 * text())
    assert wide.min() >= 0 and wide.max() <= 4
    assert wide.min() < 0.01 and wide.max() > 3.99


def test_doubling_the_factor_doubles_what_that_head_gives_to_the_last_matrix() -> None:
    part: Any = random_part("path_gated_fusion", n_heads=H)
    given: list[Tensor] = []
    part.delta.out.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    inner, twice = part._factor, torch.tensor([1.0, 2.0, 1.0])[:, None]
    with torch.no_grad():
        part(text())
        part._factor = lambda *of: twice * inner(*of)
        part(text())
    before, after = (z.unflatten(-1, (H, -1)) for z in given)
    assert torch.equal(after, twice * before)
    assert before.abs().max() > 0.1
