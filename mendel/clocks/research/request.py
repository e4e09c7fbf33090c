"""What `mendel research` is asked, checked before anything runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mendel.clocks.research.lookup import lookup
from mendel.clocks.research.run import ProposerName, Run, RunSpec
from mendel.clocks.research.suite import Suites
from mendel.clocks.workers import new_run_id
from mendel.data.proxies.proxy import Preset
from mendel.ledger import Ledger
from mendel.propose.matching import caps_of
from mendel.propose.menu import designs
from mendel.propose.novelty import canonical
from mendel.spec import ModelSpec, PartSpec, Recipe, TrainSpec
from mendel.train.proxy import refusals
from mendel.types import InputError

BUDGET_S = 3600.0
N_WORKERS = 2
# where a line starts that is given nothing: small enough for a seed in seconds
START = Recipe(
    model=ModelSpec(
        width=32,
        n_layers=2,
        mixers=(PartSpec(part="delta_net", fields={"n_heads": 2}),),
        channels=(),
    ),
    train=TrainSpec(lr=2e-2, weight_decay=0.0),  # a sweep goes from 7e-3 to 6e-2
)


@dataclass(frozen=True)
class Request:
    """Options of the command; None is what was not given."""

    suite: str | None = None
    preset: Preset | None = None
    text: Path | None = None  # for char_lm
    share: float | None = None  # of each proxy's steps; below 1 to try things out
    budget_s: float | None = None
    trials: int | None = None
    proposer: ProposerName | None = None
    start: str | None = None  # a preset, a TOML file, a turn of the ledger or a candidate's id
    n_workers: int | None = None  # None: two
    ray: str | None = None  # address of a cluster whose machines measure instead
    resume: bool = False
    null: bool = False
    seed: int | None = None
    command: str = ""


def prepared(request: Request, ledger: Ledger) -> Run:
    """A new run's folder, or the newest to go on with; it is given more under its lock.

    raises   InputError for what cannot be: no budget, a start that a proxy cannot run, another
             question than the run that is resumed was asked; nothing is written then
    """
    _check(request)
    if request.resume:
        run = Run.newest(ledger)
        _same(request, run)
        return run
    return Run.create(ledger, planned(request, ledger))


def planned(request: Request, ledger: Ledger) -> RunSpec:
    suites = Suites.named(
        request.suite or "states,recall",
        request.preset or "seconds",
        request.text,
        1.0 if request.share is None else request.share,
    )
    if request.text is not None and "text" not in suites.names:
        raise InputError(
            f"--text {request.text}: nothing of {' and '.join(suites.names)} is learned from it. "
            "Wanted the suite text. Say --suite text, or leave --text out."
        )
    vocab = suites.vocab  # reads the text, and says what is wrong with it
    start = START if request.start is None else lookup(request.start, ledger).recipe
    refused = refusals(start.model, [leg.proxy for leg in suites.whole])
    if refused:
        name, why = next(iter(refused.items()))
        raise InputError(f"--from cannot be judged on {suites.leg(name).suite}: {why}")
    start = canonical(start)
    unbounded = request.budget_s is None and request.trials is None
    caps = caps_of(start, vocab, suites.n_tokens)
    spec = RunSpec(
        id=new_run_id(),
        suites=suites,
        caps=caps,
        start=start,
        menu=designs(caps, start),
        given=request.start is not None,
        proposer=request.proposer or "builtin",
        seed=request.seed or 0,
        null=request.null,
        budget_s=BUDGET_S if unbounded else request.budget_s,
        trials=request.trials,
        n_workers=request.n_workers or N_WORKERS,
        command=request.command,
        started=time.time(),
    )
    return spec


def _check(request: Request) -> None:
    if request.budget_s is not None and request.budget_s <= 0:
        raise InputError("--budget 0 leaves no time. Wanted more than 0. Say --budget 1h.")
    if request.trials is not None and request.trials <= 0:
        raise InputError(f"--trials {request.trials}. Wanted 1 or more. Say --trials 200.")
    if request.n_workers is not None and request.n_workers <= 0:
        raise InputError(f"--workers {request.n_workers}. Wanted 1 or more. Say --workers 2.")
    if request.ray is not None:
        _check_far(request.n_workers, request.text)
    if request.share is not None and not 0 < request.share <= 1:
        raise InputError(f"--share {request.share}. Wanted more than 0, 1 at most.")
    if request.seed is not None and request.seed < 0:
        raise InputError(f"--seed {request.seed}. Wanted 0 or more.")


def _check_far(n_workers: int | None, text: str | Path | None) -> None:
    """Can what is asked be measured on the machines of a cluster?"""
    if n_workers is not None:
        raise InputError(
            f"--workers {n_workers} and --ray: a cluster is given as many trials as it has CPUs. "
            "Wanted one of them. Leave out --workers, or --ray."
        )
    if text is not None:
        raise InputError(
            f"--text {text} and --ray: a path of this machine, which a cluster's may not have or "
            "have with other words. Leave out --ray, or --text for the text that Python brings."
        )


def _same(request: Request, run: Run) -> None:
    """Does the run ask what is asked now? What was not given now is as it was."""
    spec = run.spec
    names = None if request.suite is None else Suites.named(request.suite).names
    pairs = {
        "--suite": (names, spec.suites.names),
        "--preset": (request.preset, spec.suites.preset),
        "--text": (request.text and str(request.text.resolve()), spec.suites.text),
        "--share": (request.share, spec.suites.share),
        "--proposer": (request.proposer, spec.proposer),
        "--seed": (request.seed, spec.seed),
        "--null": (request.null or None, spec.null),
    }
    for flag, (asked, was) in pairs.items():
        if asked is not None and asked != was:
            raise InputError(
                f"{flag}: the run that --resume goes on with, {spec.id}, has {was!r}. "
                f"Got {asked!r}. Leave it out, or leave out --resume."
            )
    if request.ray is not None:
        _check_far(None, spec.suites.text)
    if request.start is not None:
        raise InputError("--from and --resume: a run goes on from its own champion. Leave out one.")
