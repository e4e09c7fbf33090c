"""A small model guesses: the same tokens whatever it is, and its text follows the large one's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mendel.generate import Sampler
from mendel.serve import prove
from mendel.serve.engine import Engine
from mendel.serve.plans import Menu, menu
from mendel.serve.protocols import F32, Fixed, Piece, Request
from mendel.serve.prove import plain
from mendel.serve.reference import Reference
from mendel.spec import PlanSpec
from mendel.types import InputError

from .serve_models import ask, running, tiny

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = PlanSpec(draft="model", n_draft=3)
DRAWN = Sampler(0.9, 0.95, seed=11)


def requests(n_tokens: int = 12) -> list[Request]:
    prompts = [tuple(range(1, 4)), tuple(range(20)) * 2, (5,), tuple(range(20)) * 2 + (3, 4)]
    return [
        Request(f"r{i}", prompt, n_tokens, DRAWN if i % 2 else Sampler(), n_logprobs=2)
        for i, prompt in enumerate(prompts)
    ]


class Counting(Reference):
    """Says how many tokens went through it."""

    n_rows = 0

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        self.n_rows += sum(len(piece.ids) for piece in pieces)
        return super().run(pieces, depth=depth, threads=threads)


@pytest.mark.parametrize("small", ("llama", "a window", "a recurrence"))
@pytest.mark.parametrize("large", ("llama", "a hybrid"))
def test_a_draft_model_changes_no_token_alone_or_in_company(large: str, small: str) -> None:
    program, draft = Reference(tiny(large)), Reference(tiny(small, seed=1, n_layers=1))
    asked = requests()
    wanted = [plain(program, request) for request in asked]
    with running(program, MODEL, draft=draft, chunk_rows=24) as engine:
        alone = [ask(engine, [request])[0] for request in asked]
        again = ask(engine, asked)
        stats = engine.stats()
    assert [heard.tokens for heard in alone] == wanted
    assert [heard.tokens for heard in again] == wanted
    assert stats.n_drafted > 0
    assert program.n_bytes == draft.n_bytes == 0


@pytest.mark.parametrize("sampler", (Sampler(), DRAWN), ids=("greedy", "drawn"))
@pytest.mark.parametrize("name", ("llama", "a recurrence"))
def test_a_twin_guesses_everything_right(name: str, sampler: Sampler) -> None:
    """It would not, if its text held a token too many or few, or its draws were not the seed's."""
    program, draft = Reference(tiny(name)), Reference(tiny(name))
    with running(program, MODEL, draft=draft) as engine:
        traces = [
            ask(engine, [Request(f"r{n}", tuple(range(n)), 30, sampler)])[0].end.trace
            for n in (1, 17)
        ]
    for trace in traces:
        assert trace.n_accepted == trace.n_drafted > 0
        assert trace.n_steps <= 1 + (trace.n_out - 1) // 4 + 1


def test_its_text_takes_back_wrong_guesses_and_reads_no_token_twice() -> None:
    program, draft = Reference(tiny()), Counting(tiny(seed=1))
    with running(program, MODEL, draft=draft) as engine:
        request = Request("r", tuple(range(20)) * 3, 40, DRAWN)
        trace = ask(engine, [request])[0].end.trace
        assert trace.n_accepted < trace.n_drafted
        n = draft.n_rows
        assert n <= len(request.prompt) + trace.n_out + trace.n_drafted
        ask(engine, [Request("again", request.prompt, 2, DRAWN)])
        assert draft.n_rows - n < len(request.prompt) // 2, "its prefix was known"
        other = draft.n_rows
        ask(engine, [Request("other", request.prompt, 4, DRAWN, tenant="other")])
        assert draft.n_rows - other >= len(request.prompt), "tenants share nothing"


def test_a_draft_model_with_little_room_guesses_less_and_nobody_pays() -> None:
    program = Reference(tiny())
    asked = requests(20)
    wanted = [plain(program, request) for request in asked]
    for capacity in (2_000, 12_000, 40_000):
        draft = Reference(tiny(seed=1), capacity_bytes=capacity)
        with running(program, MODEL, draft=draft) as engine:
            for _ in range(2):
                assert [heard.tokens for heard in ask(engine, asked)] == wanted
            assert engine.stats().draft_bytes <= capacity


def test_a_draft_model_with_a_shorter_context_rests_behind_it() -> None:
    program = Reference(tiny())
    spec: dict[str, Any] = {"context": 32, "n_layers": 1}
    draft = Reference(tiny("learned positions", **spec))
    request = Request("r", tuple(range(20)), 40)
    with running(program, MODEL, draft=draft) as engine:
        (heard,) = ask(engine, [request])
    assert heard.ids == [token.id for token in plain(program, request)]
    assert heard.end.trace.n_drafted > 0


class Failing(Reference):
    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        raise RuntimeError("illegal instruction")


def test_a_draft_model_that_fails_costs_nobody_an_answer() -> None:
    program = Reference(tiny())
    asked = requests()
    with running(program, MODEL, draft=Failing(tiny())) as engine:
        heard = ask(engine, asked)
    assert [one.tokens for one in heard] == [plain(program, request) for request in asked]
    assert all(one.end.trace.n_drafted == 0 for one in heard)


def test_what_does_not_fit_together_is_refused() -> None:
    program, plans = Reference(tiny()), {MODEL.name: MODEL}
    with pytest.raises(InputError, match="model-3"):
        Engine(program, plans, Fixed(MODEL.name))
    with pytest.raises(InputError, match="vocab=30, the model 24"):
        Engine(program, plans, Fixed(MODEL.name), draft=Reference(tiny(vocab=30)))


def test_the_menu_has_its_plans_where_a_draft_model_is() -> None:
    program = Reference(tiny(n_layers=4))
    assert "--draft" in menu(program, n_cores=1).refused["model-4"]
    found = menu(program, n_cores=1, has_draft=True)
    assert {"model-2", "model-4", "model-8"} <= set(found.plans)


def test_a_plan_with_a_draft_model_is_proven_with_that_very_one(tmp_path: Path) -> None:
    program, plans = Reference(tiny(n_layers=1)), {MODEL.name: MODEL}
    for seed in (1, 2):
        draft = Counting(tiny(n_layers=1, seed=seed))
        found = prove.proven(program, Menu(plans, {}), folder=tmp_path, draft=draft)
        assert list(found.plans) == [MODEL.name] and draft.n_rows > 0
    assert len(list(tmp_path.iterdir())) == 2
