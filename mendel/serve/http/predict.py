"""POST /v1/predict: the answers of an agent that `mendel design` wrote."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from mendel.emit.runtime import answers_of
from mendel.serve.http.errors import Refused
from mendel.serve.http.openai import Body

MAX_TEXTS = 1_000
MAX_WHY = 20  # with "why": each costs as much as 200 more


class Prediction(Body):
    """POST /v1/predict; besides, the options of the agent's kind, such as top."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    texts: list[str] = Field(min_length=1, max_length=MAX_TEXTS)
    model: str | None = None
    why: bool = False


def predicted(agent: Any, asked: Prediction) -> list[dict[str, Any]]:
    """An answer for each text; raises Refused for options that the kind has not."""
    kind = agent.agent["kind"]
    given = dict(asked.model_extra or {})
    try:
        options = answers_of(kind).requested(given)
    except ValueError as error:
        raise Refused(400, str(error)) from None
    if unknown := sorted(given.keys() - options.keys()):
        known = ", ".join(["texts", "why", *options])
        raise Refused(400, f"There is no field {unknown[0]!r}. A {kind} takes {known}.")
    if asked.why:
        _check_why(agent, kind, len(asked.texts))
    answers = [answer.to_dict() for answer in agent.predict(list(asked.texts), **options)]
    if not asked.why:
        return answers
    return [a | {"why": agent.explain(t)} for a, t in zip(answers, asked.texts, strict=True)]


def _check_why(agent: Any, kind: str, n_texts: int) -> None:
    if not hasattr(agent.decoder, "evidence"):
        raise Refused(400, f"A model of kind {kind} cannot say why. Leave it out.", param="why")
    if n_texts > MAX_WHY:
        raise Refused(400, f"{n_texts} texts with why. Wanted at most {MAX_WHY}.", param="texts")
