"""Which answers change between two projects of one kind.

Model, Model, texts -> said(answer) of both -> share, flows, examples; right and wrong where known
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from mendel.types import InputError

Answer = Mapping[str, Any]
Rate = Callable[[Answer, Any], float]  # how right an answer is, 0 to 1

NOTHING = "(nothing)"
N_FLOWS, N_SHOWN, MAX_SHOWN = 30, 20, 200
NUMBERS = ("probability", "value")  # whose shift is told


def diff(
    old: Any,
    new: Any,
    texts: Sequence[str],
    *,
    targets: Sequence[Any] | None = None,
    rate: Rate | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """The answers of two projects to the same texts, compared.

    old new    as `mendel.emit.runtime.load_model` gives them
    targets    what is right, where it is known; wants `rate`
    returns    n n_changed share flows examples shift, and with targets `labelled`, in plain JSON
    raises     InputError where the projects do not answer the same kind of question
    """
    mine, its = (model.agent["kind"] for model in (old, new))
    if mine != its:
        raise InputError(
            f"projects of two kinds cannot be compared. Got {mine} and {its}. "
            "Wanted two of one kind. Give another project."
        )
    asked = list(dict.fromkeys(texts)) if targets is None else list(texts)
    with _no_alarm():
        before = _answers(old, asked, lambda share: progress(share / 2))
        after = _answers(new, asked, lambda share: progress(0.5 + share / 2))
    found = compare(before, after, asked)
    if targets is not None and rate is not None:
        found["labelled"] = labelled(before, after, targets, rate)
    return found


def compare(
    before: Sequence[Answer], after: Sequence[Answer], texts: Sequence[str]
) -> dict[str, Any]:
    """What changes between two lists of answers to the same texts."""
    pairs = list(zip(before, after, strict=True))
    changed = [i for i, (a, b) in enumerate(pairs) if differ(a, b)]
    told = [(flow, i) for i in changed for flow in _flows(*pairs[i])]
    flows = Counter(flow for flow, _ in told)
    first = {flow: texts[i][:MAX_SHOWN] for flow, i in reversed(told)}
    return {
        "n": len(pairs),
        "n_changed": len(changed),
        "share": len(changed) / len(pairs) if pairs else 0.0,
        "flows": [
            {"from": flow[0], "to": flow[1], "count": n, "example": first[flow]}
            for flow, n in sorted(flows.items(), key=lambda x: (-x[1], x[0]))[:N_FLOWS]
        ],
        "examples": [
            {"text": texts[i][:MAX_SHOWN], "before": shown(before[i]), "after": shown(after[i])}
            for i in changed[:N_SHOWN]
        ],
        "shift": _shift(pairs),
    }


def labelled(
    before: Sequence[Answer], after: Sequence[Answer], targets: Sequence[Any], rate: Rate
) -> dict[str, Any]:
    """How many answers became right, and how many stopped to be.

    A number is right where it misses by no more than the interval of the model before allows: one
    measure for both, or a model with a wider interval would mend by that alone.
    """
    a, b = (
        np.array([rate(x, t) for x, t in zip(side, targets, strict=True)], np.float64)
        for side in (before, after)
    )
    was, now = a >= 1, b >= 1
    if before and _is_number(before[0]):
        room = np.array([(x["high"] - x["low"]) / 2 for x in before])
        was, now = (
            np.array([abs(x["value"] - t) for x, t in zip(side, targets, strict=True)]) <= room
            for side in (before, after)
        )
    return {
        "n": len(targets),
        "score_before": float(a.mean()) if len(a) else None,
        "score_after": float(b.mean()) if len(b) else None,
        "fixed": int((~was & now).sum()),
        "broken": int((was & ~now).sum()),
    }


def _is_number(answer: Answer) -> bool:
    """With an interval around it."""
    return "value" in answer and "low" in answer


def differ(one: Answer, other: Answer) -> bool:
    """A number differs where it is outside the other's interval; all else where it is not equal."""
    if _is_number(one):
        return not bool(one["low"] <= other["value"] <= one["high"])
    return bool(said(one) != said(other))


def said(answer: Answer) -> Any:
    """What an answer says, without how sure it is; equal answers are equal whatever the order."""
    if "record" in answer:
        return frozenset(_frozen(_as_span(*entry)) for entry in answer["record"].items())
    if "passages" in answer:
        return json.dumps([[p["file"], p["lines"]] for p in answer["passages"]])
    for key in ("label", "value"):
        if key in answer:
            return answer[key]
    for key in ("labels", "spans"):
        if key in answer:
            return frozenset(_frozen(item) for item in answer[key])
    return _frozen(answer)


def _as_span(field: str, value: Any) -> dict[str, Any]:
    """A field of a record, whose place is its name."""
    return {"label": f"{field} = {value}", "start": field, "end": field, "text": " "}


def shown(answer: Answer) -> str:
    """The same for people."""
    what = said(answer)
    if isinstance(what, frozenset):
        return ", ".join(sorted(_named(json.loads(item)) for item in what)) or NOTHING
    return NOTHING if what is None else str(what)


@contextmanager
def _no_alarm() -> Iterator[None]:
    """A project watches its traffic for drift, and this is none."""
    log = logging.getLogger("model")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _answers(model: Any, texts: Sequence[str], told: Callable[[float], None]) -> list[Answer]:
    found: list[Answer] = []
    for begin in range(0, len(texts), 256):
        found += [answer.to_dict() for answer in model.predict(texts[begin : begin + 256])]
        told(len(found) / len(texts))
    return found


def _flows(one: Answer, other: Answer) -> list[tuple[str, str]]:
    """From what to what; of sets, what is gone and what has come."""
    a, b = said(one), said(other)
    if not isinstance(a, frozenset):
        return [(shown(one), shown(other))] if not isinstance(a, float) else []
    gone, come = ({_place(x): _label(x) for x in map(json.loads, side)} for side in (a - b, b - a))
    return [(gone.get(x, NOTHING), come.get(x, NOTHING)) for x in sorted(gone | come)]


def _place(item: Any) -> str:
    """Where it stands in the text, so that a span with another label is one change, not two."""
    return json.dumps([item["start"], item["end"]] if isinstance(item, dict) else item)


def _label(item: Any) -> str:
    return str(item["label"]) if isinstance(item, dict) else str(item)


def _named(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item['label']} {item.get('text') or [item['start'], item['end']]}"
    return str(item)


def _frozen(value: Any) -> str:
    """Canonical JSON, without numbers that say how sure."""
    if isinstance(value, Mapping):
        value = {k: v for k, v in value.items() if k not in ("probability", "score")}
    return json.dumps(value, sort_keys=True)


def _shift(pairs: Sequence[tuple[Answer, Answer]]) -> dict[str, float] | None:
    """How far the number beside an answer moves; None where there is no such number."""
    key = next((name for name in NUMBERS if pairs and name in pairs[0][0]), None)
    if key is None:
        return None
    moves = np.array([abs(a[key] - b[key]) for a, b in pairs])
    names = ("mean", "median", "p95", "max")
    values = (moves.mean(), *np.quantile(moves, (0.5, 0.95, 1.0)))
    return {name: round(float(value), 6) for name, value in zip(names, values, strict=True)}
