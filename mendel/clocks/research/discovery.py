"""A verified recipe joins the menu: a folder with the recipe, its evidence and the commands.

claim -> NAME/recipe.toml, evidence.json, README.md -> `mendel parts`, `mendel train NAME`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mendel.blobs import write_atomically
from mendel.clocks.research.contest import MINE
from mendel.clocks.research.export import known_as
from mendel.clocks.research.lookup import run_of
from mendel.clocks.research.run import Run
from mendel.clocks.research.suite import rounded
from mendel.clocks.research.twins import CONDITIONS, Twins
from mendel.ledger import Ledger, home
from mendel.propose.spelling import canonical
from mendel.spec import Recipe
from mendel.types import InputError, Kind, SealedError, Turn


def publish(claim: Turn, ledger: Ledger, folder: Path | None = None) -> Path:
    """Write the folder of a verified win; the same claim twice is one folder.

    claim    the turn in which a verification was won
    folder   where discoveries are kept; None: in MENDEL_HOME
    returns  the recipe's own folder
    raises   InputError for any other turn, SealedError where its scores may not be seen
    """
    if claim.kind is not Kind.CLAIM or claim.result.facts.get("outcome") != "verified win":
        raise InputError(
            f"turn {claim.id} is no verified win. Wanted one: `mendel research verify ID` of a "
            "turn that was kept says whether it is."
        )
    if claim.sealed is None:
        raise SealedError("a trial reached for what a verification found. Wanted a person.")
    recipe = canonical(Recipe.parse(dict(claim.candidate.state)))
    run = run_of(claim, ledger)
    found = evidence(claim, run)
    name = f"{_slug(recipe)}-{claim.candidate.id[:6]}"
    own = (folder or home() / "discoveries") / name
    own.mkdir(parents=True, exist_ok=True)
    write_atomically(own / "evidence.json", (json.dumps(found, indent=2) + "\n").encode())
    write_atomically(own / "README.md", _readme(name, claim, found).encode())
    write_atomically(own / "recipe.toml", recipe.to_toml().encode())  # last: with it, it is there
    return own


def evidence(claim: Turn, run: Run) -> dict[str, Any]:
    """What was compared, by how much, on how many seeds; plain JSON."""
    scores = (claim.sealed or {})["score"]
    found: dict[str, Any] = rounded(
        {
            "candidate": claim.candidate.id,
            "claim": claim.id,
            "verified": claim.result.facts["verified"],
            "line": str(claim.line),
            "reason": claim.verdict.reason,
            "level": claim.verdict.level,
            "suites": list(run.spec.suites.names),
            "preset": run.spec.suites.preset,
            "share": run.spec.suites.share,
            "caps": run.spec.caps.to_dict(),
            "conditions": {
                name: {**told, "rivals": _rivals(scores[name], run, name)}
                for name, told in claim.result.facts["conditions"].items()
            },
            "commands": [
                run.spec.command,
                f"mendel research verify {claim.result.facts['verified']}",
            ],
        }
    )
    return found


def _rivals(scores: Mapping[str, Any], run: Run, condition: str) -> list[dict[str, Any]]:
    """Of each design of the menu, the strongest first: pairs, mean, and how much was gained."""
    twins = Twins.of(run.spec.suites, CONDITIONS[condition][1])
    found = []
    for name, seeds in scores.items():
        if name == MINE:
            continue
        mine = scores[MINE][: len(seeds)]
        found.append(_row(name, twins, mine, seeds, judged=len(seeds) > 1))
    return sorted(found, key=lambda row: -row["mean"])


def _row(
    name: str, twins: Twins, mine: Sequence[Any], its: Sequence[Any], *, judged: bool
) -> dict[str, Any]:
    whole = [leg.name for leg in twins.whole]
    pairs = [(a, b) for a, b in zip(mine, its, strict=True) if set(b) == set(whole)]
    row: dict[str, Any] = {"name": name, "pairs": len(pairs) or 1, "judged": judged}
    if not pairs:  # it gave up: what was left counts in full
        full = {leg: [its[0].get(leg, 1.0)] for leg in whole}
        return {**row, "mean": twins.mean(full)[0], "gave_up_after": len(its[0])}
    side = [{leg: [pair[i][leg] for pair in pairs] for leg in whole} for i in (0, 1)]
    means = [fmean(twins.mean(each)) for each in side]
    suites = [twins.by_suite(each) for each in side]
    gains = {s: fmean(suites[0][s]) - fmean(suites[1][s]) for s in suites[0]}
    return {**row, "mean": means[1], "gain": means[0] - means[1], "gain_by_suite": gains}


def _slug(recipe: Recipe) -> str:
    names = dict.fromkeys(known_as("mixer", part) for part in recipe.model.mixers)
    return "-".join(names)[:40]


def _readme(name: str, claim: Turn, found: Mapping[str, Any]) -> str:
    lines = [f"# {name}", "", f"{claim.verdict.reason}.", ""]
    for condition, told in found["conditions"].items():
        lines += [f"## {condition}", "", "| design | mean | gain | pairs |", "|---|---:|---:|---:|"]
        for row in told["rivals"][:10]:
            gain = f"{row['gain']:+.3f}" if "gain" in row else "far behind"
            lines.append(f"| {row['name']} | {row['mean']:.3f} | {gain} | {row['pairs']} |")
        hours = told["seconds"] / 3600
        designs = f"{told['designs']} designs, {told['trained_alike']} trained as it is too"
        lines += ["", f"{designs}; {hours:.1f} core hours.", ""]
    commands = [f"    {command}" for command in found["commands"]]
    return "\n".join([*lines, "## Commands", "", *commands, f"    mendel train {name} ...", ""])
