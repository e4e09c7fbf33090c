"""Which texts a person should label next: those that the model learns the most from.

project, texts -> ask -> Items, for a terminal or a sheet (sheet.py)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.clocks.design.run import Run
from mendel.clocks.design.sheet import Item, written
from mendel.data.vault import Sealed, Vault
from mendel.ledger import Ledger
from mendel.train.folds import Rows
from mendel.types import InputError

KINDS_ASKED = ("classify", "multilabel")
N_ALTERNATIVES = 5
MOST = 20_000  # texts that are looked at


@dataclass(frozen=True)
class Asked:
    items: tuple[Item, ...]
    n_left: int  # texts that were there to choose from
    n_near: int  # left out: they say nearly what a sealed row says, so no training may use them


def ask(
    model: Any,
    texts: Sequence[str],
    n: int,
    *,
    known: Collection[str] = (),
    near: Callable[[Sequence[str]], NDArray[np.bool_]] | None = None,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Asked:
    """The texts whose labels help the most: those that the model doubts, no two alike.

    model    as `load_model` gives it, of kind classify or multilabel
    known    texts that have a label: they are not asked for
    near     says which texts are nearly sealed ones
    raises   InputError for another kind, and where no text is left
    cost     10,000 texts in about 15 s on one core
    """
    check_kind(model)
    if n < 1:
        raise InputError(f"--n {n} asks for nothing. Wanted 1 or more.")
    done = set(known)
    rest = [text for text in dict.fromkeys(texts) if text not in done]
    out = near(rest) if near is not None and rest else np.zeros(len(rest), bool)
    left = [text for text, sealed in zip(rest, out.tolist(), strict=True) if not sealed]
    if not left:
        raise InputError(
            f"no text is left to ask for: {len(texts)} given, {len(set(texts) & done)} of them "
            f"have a label, {int(out.sum())} are nearly sealed rows. Give others by --unlabeled."
        )
    some = _sample(left)
    shares = _shares(model, some, progress)
    # imported here: scikit-learn takes seconds
    from mendel.train.few.ask import most_useful
    from mendel.train.few.view import latent

    progress("comparing texts", 0.9)
    chosen = most_useful(shares, latent(some, seed=0), n).tolist()
    items = _items(model, [some[i] for i in chosen])
    progress("done", 1.0)
    return Asked(items, len(left), int(out.sum()))


def check_kind(model: Any) -> None:
    """Refuse a project whose answers are no labels of a text; raises InputError."""
    kind = model.agent["kind"]
    if kind not in KINDS_ASKED:
        raise InputError(
            f"`mendel label` asks about labels of texts. Got a project of kind {kind}. "
            f"Wanted {' or '.join(KINDS_ASKED)}. Label a file in an editor, then `mendel redesign`."
        )


def near_sealed(
    project: Path, ledger: Ledger
) -> tuple[tuple[str, ...], Callable[[Sequence[str]], NDArray[np.bool_]] | None]:
    """The texts that the project has learnt from, and who says what is nearly sealed.

    returns   nothing of either where the run that made it is not here
    """
    run = Run.that_made(ledger, project)
    if run is None or not (run.folder / "inputs.json").exists():
        return (), None
    sealed = Sealed(run.spec.sealed, run.spec.n_sealed)
    return Rows.load(run.folder).texts, lambda texts: Vault(ledger).near(sealed, texts)


def _sample(texts: list[str]) -> list[str]:
    if len(texts) <= MOST:
        return texts
    kept = np.sort(np.random.default_rng(0).choice(len(texts), MOST, replace=False))
    return [texts[i] for i in kept.tolist()]


def _shares(
    model: Any, texts: Sequence[str], progress: Callable[[str, float], None]
) -> NDArray[np.float64]:
    """(n, K) of the labels; of a task with several (n, 2) of the label that is least clear."""
    found = []
    for begin in range(0, len(texts), 256):
        outputs = model.outputs(texts[begin : begin + 256])
        if model.agent["kind"] == "classify":
            found.append(model.decoder.probabilities(outputs))
        else:
            p = 1 / (1 + np.exp(-np.abs(outputs - model.decoder.cuts).min(1).astype(np.float64)))
            found.append(np.stack([p, 1 - p], 1))
        progress("asking the model", 0.9 * min(begin + 256, len(texts)) / len(texts))
    return np.concatenate(found)


def _items(model: Any, texts: Sequence[str]) -> tuple[Item, ...]:
    if model.agent["kind"] == "classify":
        answers = model.predict(texts, top=N_ALTERNATIVES)
        return tuple(
            Item(text, answer.top[0][0], tuple(label for label, _ in answer.top))
            for text, answer in zip(texts, answers, strict=True)
        )
    return tuple(
        Item(text, written(answer.labels), tuple(_likeliest(answer.probabilities)))
        for text, answer in zip(texts, model.predict(texts), strict=True)
    )


def _likeliest(probabilities: dict[str, float]) -> list[str]:
    return sorted(probabilities, key=lambda label: -probabilities[label])[:N_ALTERNATIVES]
