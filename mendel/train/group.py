"""Seeds that train side by side: one model, or several stacked into one batched run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from copy import deepcopy
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from mendel.data.corpus import batch_rng
from mendel.model import Model, build
from mendel.parts.flops import count_flops
from mendel.spec import ModelSpec, TrainSpec
from mendel.train import exits
from mendel.train.optim import Optimizer, OptimSpec, clip, make_optimizer
from mendel.types import InputError, is_out_of_memory

N_EVALUATED = 4  # batches at a time, since nothing is kept for gradients


class Source(Protocol):
    """Where batches come from; mendel.data.corpus.Tokens is one."""

    def batch(self, rng: np.random.Generator, n: int, context: int) -> tuple[Tensor, Tensor]:
        """x (B, T) and targets; the same rng gives the same batch."""

    def windows(self, context: int, n: int) -> Iterable[tuple[Tensor, Tensor]]:
        """The validation data, each target once, at most n windows at a time; -1 is no target."""


class MemoryShort(InputError):
    """A step does not fit into the machine's memory."""


def pick_device() -> torch.device:
    """MENDEL_DEVICE where it is set, else a GPU where there is one."""
    name = os.environ.get("MENDEL_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        probe = torch.zeros(1, device=name)
        probe.tolist()  # a device that holds no numbers is none to train on
        return probe.device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0].split(". ")[0]
        raise InputError(f"MENDEL_DEVICE={name!r} cannot be used: {why}.") from None


def pick_dtype(how: TrainSpec, device: torch.device) -> torch.dtype:
    """What matrix products are computed in; weights stay in float32."""
    if how.dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if how.dtype == "bfloat16" else torch.float32


class Group:
    """One or more seeds of a spec, trained in step; each sees the batches of its own seed.

    With several seeds every parameter has a leading axis (S, ...), and one vmapped call computes
    all losses: at small widths the cost of a step is in the calls, not in the arithmetic.
    """

    def __init__(
        self, spec: ModelSpec, how: TrainSpec, seeds: tuple[int, ...], device: torch.device
    ) -> None:
        exits.check(spec, how)
        self.spec, self.how, self.seeds, self.device = spec, how, seeds, device
        self.stacked = len(seeds) > 1
        self._dtype = pick_dtype(how, device)
        models = [build(spec, seed=seed).to(device) for seed in seeds]
        self.model: Model = models[0]
        self.params: dict[str, Tensor] = dict(self.model.named_parameters())
        if self.stacked:
            self.params = stack_module_state(list(models))[0]
        self._buffers = dict(self.model.named_buffers())
        self.optimizer: Optimizer = make_optimizer(
            _optim_spec(how, device), self.params, matrices=_matrices(self.model)
        )

    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """(S,) nats a target. x, y are (S, B, T) when stacked, else (B, T)."""
        return self._terms(x, y)[:, 0]

    def _terms(self, x: Tensor, y: Tensor) -> Tensor:
        """(S, n): what the sum of is minimised, the nats first."""
        with self._autocast():
            if not self.stacked:
                return self._loss(self.model(x)[0], y)[None]
            return self._each(self._loss_with, x, y)

    def _trained_terms(self, x: Tensor, y: Tensor, step: int) -> Tensor:
        """The same as a step of training sees it: with exits where the recipe has them."""
        if not exits.is_asked(self.how):
            return self._terms(x, y)
        n = self.spec.n_layers
        kept = [exits.layers_kept(self.how, n, seed, step)[:, : x.shape[-2]] for seed in self.seeds]
        loss = partial(self._exit_loss_with, exits.exit_of(step, n))
        masks = torch.stack(kept).to(self.device)
        with self._autocast():
            if not self.stacked:
                return loss(self.params, x, y, masks[0])[None]
            return self._each(loss, x, y, masks)

    def _each(self, loss: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """(S, n): of each seed by its own parameters and inputs."""
        one = torch.func.vmap(loss, in_dims=0)
        with warnings.catch_warnings():
            # an operator that vmap runs in a loop is slow, and then seeds are trained apart
            warnings.filterwarnings("ignore", message="There is a performance drop")
            found: Tensor = one(self.params, *inputs)
        return found

    def _loss_with(self, params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output, _ = functional_call(self.model, (params, self._buffers), (x,))
        return self._loss(output, y)

    def _exit_loss_with(
        self, depth: int, params: dict[str, Tensor], x: Tensor, y: Tensor, kept: Tensor
    ) -> Tensor:
        """The terms of the whole model, and the nats after `depth` layers."""
        named = {f"model.{name}": p for name, p in (params | self._buffers).items()}
        whole, early = functional_call(exits.EarlyExit(self.model), named, (x, depth, kept))
        terms = self._loss(whole, y)
        if self.how.exit_loss is None:
            return terms
        return torch.cat((terms, self.how.exit_loss * self._loss(early, y)[:1]))

    def _loss(self, output: Tensor, y: Tensor) -> Tensor:
        """(n,): nats, and the terms that the recipe adds to them."""
        if output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()
        head: Any = self.model.head
        loss: Tensor = head.loss(output, y)
        if not self.how.z_loss:
            return loss[None]
        return torch.stack((loss, self.how.z_loss * mean_squared_log_sum(output, y)))

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32)

    def batch(self, source: Source, step: int, n: int | None = None) -> tuple[Tensor, Tensor]:
        """The batches of one step, one a seed."""
        pairs = [
            source.batch(batch_rng(seed, step), n or self.how.batch, self.spec.context)
            for seed in self.seeds
        ]
        x, y = (torch.stack(side) if self.stacked else side[0] for side in zip(*pairs, strict=True))
        return x.to(self.device), y.to(self.device)

    def step(self, source: Source, step: int, multiplier: float) -> list[float]:
        """One step of the optimiser; returns the losses before it, which may be NaN.

        raises   MemoryShort, which says the batch that fits
        """
        found = self._try(source, step, self.how.batch)
        if found is None:
            raise self._memory_short(source)
        losses, grads = found
        if self.how.clip:
            clip(grads, self.how.clip, stacked=self.stacked)
        self.optimizer.step(grads, multiplier)
        return losses

    def _try(
        self, source: Source, step: int, n: int
    ) -> tuple[list[float], dict[str, Tensor]] | None:
        """Losses and gradients of n windows, or None where memory does not suffice."""
        try:
            terms = self._trained_terms(*self.batch(source, step, n), step)
            return terms[:, 0].detach().tolist(), _gradients(terms, self.params)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None

    def evaluate(self, source: Source) -> list[float]:
        """Nats a target over the whole of the validation data, one number a seed."""
        totals, n = torch.zeros(len(self.seeds), dtype=torch.float64), 0
        with torch.no_grad():
            for x, y in source.windows(self.spec.context, N_EVALUATED * self.how.batch):
                x, y = x.to(self.device), y.to(self.device)
                count = int((y >= 0).sum())
                if self.stacked:
                    x, y = (z.expand(len(self.seeds), *z.shape) for z in (x, y))
                totals += self.losses(x, y).double().cpu() * count
                n += count
        return (totals / n).tolist()

    @torch.no_grad()
    def some_seed_is_finite(self) -> bool:
        """Whether at least one seed's weights are all numbers."""
        shape = (len(self.seeds), -1)
        checks = [p.isfinite().reshape(shape).all(1) for p in self.params.values()]
        return bool(torch.stack(checks).all(0).any())

    def models(self) -> list[Model]:
        """The trained models, one a seed, on the CPU."""
        if not self.stacked:
            return [deepcopy(self.model).cpu()]
        found = []
        for i, _ in enumerate(self.seeds):
            model = build(self.spec)
            own = {name: stacked[i].detach().cpu() for name, stacked in self.params.items()}
            model.load_state_dict(own, strict=False)  # a tied head has the embedding's matrix
            found.append(model)
        return found

    def state_tensors(self) -> dict[str, Tensor]:
        """All that a step changes, by name."""
        params = {f"params.{name}": p.detach() for name, p in self.params.items()}
        rest = {f"optimizer.{name}": t for name, t in self.optimizer.state_tensors().items()}
        return params | rest

    @torch.no_grad()
    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        for name, p in self.params.items():
            p.copy_(tensors[f"params.{name}"])
        mine = "optimizer."
        self.optimizer.load_state_tensors(
            {name.removeprefix(mine): t for name, t in tensors.items() if name.startswith(mine)}
        )

    def _memory_short(self, source: Source) -> MemoryShort:
        n = self.how.batch // 2
        while n and self._try(source, 0, n) is None:
            n //= 2
        hint = f"A batch of {n} fits: set batch={n}."
        if not n:
            hint = "Not even one window fits: set a smaller context, width or n_layers."
        return MemoryShort(
            f"a step with batch={self.how.batch} windows of context={self.spec.context}, "
            f"{len(self.seeds)} seed(s) at once, does not fit into memory. {hint}"
        )

    def flops_of_a_window(self, source: Source) -> float:
        """Of one seed, forward and backward."""
        x, y = source.batch(batch_rng(self.seeds[0], 0), 1, self.spec.context)
        params: dict[str, Tensor] = dict(self.model.named_parameters())
        given = (params, x.to(self.device), y.to(self.device))
        loss = partial(self._loss_with, *given)
        if exits.is_asked(self.how):  # an exit costs the same after whichever layer
            n = self.spec.n_layers
            kept = torch.ones(n, 1, dtype=torch.bool, device=self.device)
            loss = partial(self._exit_loss_with, exits.exit_of(0, n), *given, kept)
        return float(count_flops(lambda: _gradients(loss()[None], params)))


def mean_squared_log_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of (log sum exp logits)^2 where there is a target: what z_loss is the factor of.

    logits   (..., K)
    targets  (...) of int64, -1 where there is none
    source   Chowdhery 2022 (PaLM), section 5
    """
    asked = targets >= 0
    return (logits.logsumexp(-1).square() * asked).sum() / asked.sum().clamp(min=1)


def _matrices(model: Model) -> list[str]:
    """Names of the matrices between hidden layers: what Muon is for, and what decays."""
    return [
        f"layers.{name}.weight"
        for name, module in model.layers.named_modules()
        if isinstance(module, torch.nn.Linear) and min(module.weight.shape) > 1
    ]


def _optim_spec(how: TrainSpec, device: torch.device) -> OptimSpec:
    has_amx: bool = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return OptimSpec(
        # without hardware for it bfloat16 is emulated, and slower than float32
        dtype="bfloat16" if device.type == "cuda" or has_amx else "float32",
        kind=how.optimizer,
        lr=how.lr,
        muon_lr=how.matrix_lr,
        beta1=how.beta1,
        beta2=how.beta2,
        eps=how.eps,
        weight_decay=how.weight_decay,
    )


def _gradients(terms: Tensor, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of each seed's own terms: seeds share nothing, so the sum's gradient is theirs."""
    found = torch.autograd.grad(terms.sum(), list(params.values()), materialize_grads=True)
    return dict(zip(params, found, strict=True))
