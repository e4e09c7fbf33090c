"""The module under audit, in its own process: it is only ever asked for calls and measurements.

Every decision is made elsewhere, on what comes back: see `auditor.py`. One piece, because it is
what runs beside a stranger's module.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mendel.audit.claims import Claims
from mendel.audit.dropout import without_dropout
from mendel.audit.inputs import InputSpec
from mendel.audit.jitter import jitter, jittered
from mendel.audit.measures import Cost, measure
from mendel.audit.memory import Snapshot, bump, snapshot
from mendel.audit.training import Steps, seed_all, take_steps
from mendel.types import MendelError

UNBUILT = "it was not built"
STATE_NAMES = ("state", "hx", "h0", "h_0", "hidden", "hidden_state", "carry")
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "rounded": torch.float32,  # with weights that were rounded to bfloat16
}


class AuditError(MendelError, RuntimeError):
    """The module cannot be audited at all."""


@dataclass(frozen=True)
class Call:
    """One forward, and the gradient of its input where a cotangent is given."""

    x: Tensor  # (B, T, ...)
    train: bool = False
    dropout: bool = True  # in train mode: as the module has it
    seed: int = 0  # of every generator, before the call
    cotangent: Tensor | None = None  # of the output's shape
    jitter: float = 0.0  # weights and inputs times 1 + jitter * (fixed random numbers)
    pieces: tuple[int, ...] = ()  # lengths fed one after the other, the state carried
    bump: Mapping[str, float] = field(default_factory=dict)  # numbers of the module, set before
    strided: bool = False  # the same values, not contiguous in memory
    watch: bool = False  # say what of the module, the generators and the input it changed


@dataclass(frozen=True)
class Answer:
    """What a call gave: an output, or an error."""

    y: Tensor | None = None  # (B, T, ...)
    gradient: Tensor | None = None  # (B, T, ...), of the input or of its embedding
    error: str | None = None
    changed: tuple[str, ...] = ()  # what of the module is not as it was before the call
    numbers: tuple[str, ...] = ()  # of these, single numbers, which can be bumped
    wrote_input: bool = False  # or into the state
    moved_random: bool = False  # the global generator stands elsewhere, and no value shows why
    state_bytes: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is known before any call."""

    name: str
    n_params: int
    state: str | None  # the argument that takes what a call left behind
    dtypes: Mapping[str, str]  # those that cannot run, and why


class Subject:
    """A module with a fresh copy for each list of calls; weights are shared, all else is not."""

    def __init__(
        self,
        module: nn.Module,
        spec: InputSpec,
        output: int | str | None = None,
        claims: Claims | None = None,
        rebuild: Callable[[int], nn.Module] | None = None,
    ) -> None:
        self.spec, self.output, self._rebuild = spec, output, rebuild
        claims = claims or Claims()
        self.state_output = claims.state_output
        self._modules = {"float32": _still(module)}
        self._rewrites: bool | None = None  # a forward changes weights, so copies share none
        self._used: dict[str, nn.Module] = {}
        self.state = claims.state or _state_argument(module)
        self.name = type(module).__name__

    def facts(self) -> Facts:
        module = self._modules["float32"]
        self._rewrites = self._writes_weights()
        refused = {}
        for name in ("float64", "float32", "bfloat16"):
            error = self._first_error(name)
            if error is not None:
                refused[name] = error
        n_params = sum(p.numel() for p in module.parameters())
        return Facts(self.name, n_params, self.state, refused)

    def _writes_weights(self) -> bool:
        """Whether eval and train mode, each twice, leave every weight as it was."""
        module = copy.deepcopy(self._modules["float32"])
        before = [p.detach().clone() for p in module.parameters()]
        for train in (False, True, False, True):
            self._call(module, Call(self.spec.draw(2, 8, 0), train=train), torch.float32)
        return not all(map(torch.equal, before, module.parameters()))

    def _first_error(self, dtype: str) -> str | None:
        """None where any of a few usual shapes works."""
        errors = []
        for B, T in ((2, 8), (2, 64), (1, 64), (2, 128), (2, 17), (4, 256), (2, 1)):
            error = self.calls([Call(self.spec.draw(B, T, 0))], dtype)[0].error
            if error is None:
                return None
            errors.append(error)
        return errors[0]

    def calls(
        self, calls: Sequence[Call], dtype: str = "float64", fresh: bool = True
    ) -> list[Answer]:
        """One after the other on one copy; fresh: that no call has touched before."""
        if fresh or dtype not in self._used:
            self._used[dtype] = self._fresh(dtype)
        module = self._used[dtype]
        with _default(DTYPES[dtype] if dtype == "float64" else torch.float32):
            return [self._call(module, call, DTYPES[dtype]) for call in calls]

    def widened(self, width: int) -> str | None:
        """Build and run the module at another width; returns the error, None where it works."""
        if self._rebuild is None:
            return UNBUILT
        try:
            other = Subject(self._rebuild(width), self.spec.with_width(width), self.output)
        except Exception as error:
            return f"{UNBUILT}: {_said(error)}"
        answer = other.calls([Call(other.spec.draw(2, 9, 0))], "float32")[0]
        return answer.error

    def train_steps(self, B: int, T: int, dtype: str, n: int = 3, seed: int = 0) -> Steps:
        """n steps of sign descent towards random numbers, and one more gradient."""
        x = self.spec.draw(B, T, seed)
        try:
            module = _cast(copy.deepcopy(self._modules["float32"]), DTYPES[dtype]).train()
            return take_steps(lambda: self._trained(module, x, DTYPES[dtype]), module, n, seed)
        except (Exception, SystemExit) as error:
            return Steps({}, (), _said(error))

    def cost(self, T: int, repeats: int = 0) -> Cost:
        """Of one forward of one row in eval mode; raises AuditError with what the module raises."""
        module = self._fresh("float32")
        x = self.spec.draw(1, T, 0)
        try:
            with torch.no_grad():
                return measure(lambda: self._forward(module, x, torch.float32), repeats, T)
        except (Exception, SystemExit) as error:
            raise AuditError(_said(error)) from None

    def _call(self, module: nn.Module, call: Call, dtype: torch.dtype) -> Answer:
        try:
            module.train(call.train)
            for name, value in call.bump.items():
                bump(module, name, value)
            before = snapshot(module) if call.watch else None
            with ExitStack() as stack:
                if call.train and not call.dropout:
                    stack.enter_context(without_dropout(module))
                stack.enter_context(jittered(module, call.jitter))
                return self._answer(module, call, dtype, before)
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever a stranger's module raises is what it says
            return Answer(error=_said(error))

    def _answer(
        self, module: nn.Module, call: Call, dtype: torch.dtype, before: Snapshot | None
    ) -> Answer:
        x = jitter(call.x, call.jitter, -1) if call.jitter else call.x
        seed_all(call.seed)
        generator, gradient, size = torch.get_rng_state(), None, None
        if call.cotangent is not None:
            y, gradient = self._gradient(module, x, call.cotangent, dtype)
            wrote = False
        else:
            with torch.no_grad():
                y, size, wrote = self._plain(module, x, call, dtype)
        changed, numbers = before.changed(module) if before else ((), ())
        return Answer(
            y=y.detach().to(torch.float64 if y.dtype == torch.float64 else torch.float32),
            gradient=gradient,
            changed=changed,
            numbers=numbers,
            wrote_input=wrote,
            moved_random=not torch.equal(generator, torch.get_rng_state()),
            state_bytes=size,
        )

    def _plain(
        self, module: nn.Module, x: Tensor, call: Call, dtype: torch.dtype
    ) -> tuple[Tensor, int | None, bool]:
        if call.pieces:
            return self._in_pieces(module, x, call.pieces, dtype)
        given = self._given(x, dtype)
        if call.strided:
            given = _strided(given)
        kept = given.clone() if call.watch else given
        y = self._sequence(module(given), x)
        return y, None, not torch.equal(given, kept)

    def _trained(self, module: nn.Module, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Everything of the output that learns, the sequence first; gradients reach the input."""
        given = self._given(x, dtype)
        if given.is_floating_point():
            given.requires_grad_()  # so that a checkpoint inside keeps its gradients
        out = module(given)
        y = self._sequence(out, x)
        others = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.is_floating_point()]
        return [y, *(t for t in others if t is not y)]

    def _forward(self, module: nn.Module, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Any]:
        out = module(self._given(x, dtype))
        return self._sequence(out, x), out

    def _gradient(
        self, module: nn.Module, x: Tensor, cotangent: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """The vector-Jacobian product with respect to the input, or to what embeds its tokens."""
        if self.spec.kind == "float":
            leaf = x.to(dtype).requires_grad_()
            y = self._sequence(module(self.spec.lay_out(leaf)), x)
        else:
            leaf, y = self._embedded(module, x, dtype)
        found = torch.zeros_like(leaf)
        if y.requires_grad:
            (found,) = torch.autograd.grad(
                y, leaf, cotangent.to(y.dtype).expand_as(y), materialize_grads=True
            )
        if self.spec.kind == "tokens":
            found = self.spec.bring_back(found)
        return y, found.detach().contiguous()

    def _embedded(self, module: nn.Module, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        leaves: list[Tensor] = []
        given = self._given(x, dtype)

        def add(embedding: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
            if leaves or inputs[0].shape != given.shape or not torch.equal(inputs[0], given):
                return out
            leaves.append(torch.zeros_like(out).requires_grad_())
            return out + leaves[0]

        hooks = [
            m.register_forward_hook(add) for m in module.modules() if isinstance(m, nn.Embedding)
        ]
        try:
            y = self._sequence(module(given), x)
        finally:
            for hook in hooks:
                hook.remove()
        if not leaves:
            raise AuditError("no nn.Embedding takes the tokens, so they have no gradient")
        return leaves[0], y

    def _in_pieces(
        self, module: nn.Module, x: Tensor, pieces: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, int, bool]:
        if self.state is None:
            raise AuditError("it takes no state")
        state: Any = None  # (an output that is one tensor carries none)
        found: list[Tensor] = []
        wrote = False
        for piece in x.split(list(pieces), 1):
            known: dict[str, Any] = {} if state is None else {self.state: state}
            kept = copy.deepcopy(state)
            out = module(self._given(piece, dtype), **known)
            wrote |= not _same(state, kept)
            found.append(self._sequence(out, piece))
            if isinstance(out, Tensor):
                raise AuditError("it returns no state")
            state = _element(out, self.state_output)
        return torch.cat(found, 1), n_bytes(state), wrote

    def _given(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """A copy of its own, so that a module that writes into its input spoils nothing."""
        x = x.to(dtype) if self.spec.kind == "float" else x
        return self.spec.lay_out(x).clone(memory_format=torch.contiguous_format)

    def _sequence(self, out: Any, x: Tensor) -> Tensor:
        y = _element(out, self.output)
        if not isinstance(y, Tensor):
            raise AuditError(f"the output is {type(y).__name__}. Wanted a tensor; see --output.")
        y = self.spec.bring_back(y)
        if y.shape[:2] != x.shape[:2]:
            raise AuditError(
                f"the output has batch and time {tuple(y.shape[:2])} for {tuple(x.shape[:2])}."
            )
        return y if y.is_floating_point() else y.to(torch.float64)

    def _fresh(self, dtype: str) -> nn.Module:
        if dtype not in self._modules:
            module = copy.deepcopy(self._modules["float32"])
            module = module.bfloat16() if dtype == "rounded" else module
            self._modules[dtype] = _cast(module, DTYPES[dtype])
        module = self._modules[dtype]
        shared = [] if self._rewrites else module.parameters()
        weights: dict[int, Any] = {id(p): p for p in shared}
        return copy.deepcopy(module, weights)


def n_bytes(state: Any) -> int:
    """Of all tensors in it."""
    tensors = [t for t in tree_leaves(state) if isinstance(t, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)


def _same(one: Any, two: Any) -> bool:
    mine, its = ([t for t in tree_leaves(tree) if isinstance(t, Tensor)] for tree in (one, two))
    return len(mine) == len(its) and all(map(torch.equal, mine, its))


def _still(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module).float().eval()
    except Exception as error:
        raise AuditError(
            f"{type(module).__name__} cannot be copied ({_said(error)}). Wanted a module that "
            "copy.deepcopy takes; old weight_norm: use torch.nn.utils.parametrizations.weight_norm."
        ) from None


def _state_argument(module: nn.Module) -> str | None:
    try:
        names = list(inspect.signature(module.forward).parameters)[1:]
    except (TypeError, ValueError):  # compiled code has no signature
        return None
    return next((name for name in names if name in STATE_NAMES), None)


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Also tensors that were never registered, and would clash in a product."""
    module = module.to(dtype)
    for part in module.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                vars(part)[name] = value.to(dtype)
    return module


def _element(out: Any, which: int | str | None) -> Any:
    if isinstance(which, str) and not isinstance(out, Mapping):
        return getattr(out, which)
    if which is not None:
        return out[which]
    if isinstance(out, Tensor):
        return out
    if isinstance(out, Mapping):  # of a Hugging Face model too
        return next(iter(out.values()))
    return out[0]


def _strided(x: Tensor) -> Tensor:
    """Every other number of a tensor twice as large, whose first two axes are exchanged."""
    wide = torch.stack((x, x), -1).transpose(0, 1).contiguous()
    return wide[..., 0].transpose(0, 1)


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """For what the module makes on its way, such as torch.zeros."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
