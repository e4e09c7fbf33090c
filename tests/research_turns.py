"""A research line with turns made by hand, of the facts that real ones have."""

from __future__ import annotations

import random
import uuid
from typing import Any

from mendel.ledger import Ledger
from mendel.spec import ModelSpec, Recipe, TrainSpec
from mendel.types import Candidate, Cost, Decision, Kind, Line, Result, Turn, Verdict, digest

PROXIES = ("word_z60", "overwritten_recall")


def made_recipe(lr: float = 3e-3, part: str = "delta_net", **fields: Any) -> Recipe:
    model = ModelSpec.parse(
        {"width": 8, "n_layers": 2, "mixers": [{"part": part, "n_heads": 2, **fields}]}
    )
    return Recipe(model=model, train=TrainSpec(lr=lr))


def append(ledger: Ledger, turn: Turn) -> Turn:
    with ledger.writing(turn.line, durable=False) as connection:
        return ledger.append(connection, turn)


def facts(stage: str, mine: float, its: float, n: int, **more: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "proxies": {name: [mine] * n for name in PROXIES},
        "champion": {name: [its] * n for name in PROXIES},
        "suites": {"states": [mine] * n, "recall": [mine] * n},
        "lr": dict.fromkeys(PROXIES, 1.0),
        "curves": {name: [[s, 3.0 / s] for s in range(1, 13)] for name in PROXIES},
        "n_params": 5000 + int(1000 * mine), "flops": 1e4, "state_bytes": 512,
        "audit": {"verdict": "clean", "cached": True}, "repairs": [], "null": False, "cut": "",
        **more,
    }  # fmt: skip


def trial(
    ledger: Ledger,
    line: Line,
    recipe: Recipe,
    champion: Turn,
    *,
    stage: str = "screen",
    gain: float = 0.0,
    keep: bool = False,
    motivation: str = "erase what it reads",
    links: tuple[str, ...] = (),
    **more: Any,
) -> Turn:
    n = 1 if stage == "race" else 4
    result = Result(
        (0.5 + gain,) * n, (0.5,) * n, Cost(36.0, 1e9, 5000, 512),
        facts=facts(stage, 0.5 + gain, 0.5, n, **more),
    )  # fmt: skip
    verdict = Verdict(
        Decision.KEEP if keep else Decision.DISCARD, f"mean {gain:+.3f}", 0.01 if keep else None
    )
    turn = Turn(
        line, Kind.TRIAL, Candidate(recipe.to_dict(), motivation, links), result, verdict,
        champion.id, uuid.uuid4().hex, 1 if stage == "confirm" else 0,
    )  # fmt: skip
    return append(ledger, turn)


def begun(ledger: Ledger, run: str = "main", line: Line | None = None) -> tuple[Line, Turn]:
    line = line or Line("research", digest(["states,recall"]), run)
    verdict = Verdict(Decision.KEEP, "where the line starts")
    start = Candidate(made_recipe().to_dict(), "where the line starts")
    return line, append(ledger, Turn(line, Kind.START, start, Result(), verdict))


def filled(ledger: Ledger, n: int, run: str = "main", every: int = 40, **more: Any) -> Line:
    """A line of n trials, of which one in `every` is kept."""
    line, champion = begun(ledger, run)
    draw, told = random.Random(0), [champion]
    for i in range(1, n + 1):
        keep = i % every == 0
        stage = "confirm" if keep else draw.choice(["race", "race", "screen"])
        parent = draw.choice(told[-30:])
        recipe = made_recipe(lr=3e-3 * (1 + i / n), beta_max=draw.choice([1.0, 2.0]))
        turn = trial(
            ledger, line, recipe, champion, stage=stage, gain=draw.gauss(0, 0.02), keep=keep,
            motivation=f"try {i}: erase what it reads", links=(f"turn:{parent.id}",), **more,
        )  # fmt: skip
        told.append(turn)
        champion = turn if keep else champion
    return line
