"""A tour of the library in under 10 seconds: what each room does, in the order of the design."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mendel import judge
from mendel.driver import Driver
from mendel.kinds import KINDS
from mendel.ledger import Ledger
from mendel.parts.text.fit import Examples, fit
from mendel.parts.text.graph import build_graph
from mendel.parts.text.recipe import Recipe
from mendel.parts.text.runner import Runner
from mendel.spec import TextSpec
from mendel.train.folds import Rows, measure_fold
from mendel.types import Account, Kind
from tests.toy import ToyClock

TEXTS = ["where is my parcel", "my parcel is late", "i want a refund", "give my money back"] * 10
LABELS = np.array([0, 0, 1, 1] * 10)
NAMES = ("delivery", "refund")


def test_a_clock_turns_the_ledger_remembers_and_the_champion_is_live(
    home: Path, ledger: Ledger
) -> None:
    clock = ToyClock(home / "live.json", seed=0)
    driver = Driver(clock, ledger)
    driver.start()
    for _ in range(10):
        driver.turn()
    champion = ledger.champion(clock.line)
    assert champion is not None and clock.champion().identity == champion.identity
    chain = ledger.why(champion.turn)
    assert chain[0].kind is Kind.START and chain[-1].id == champion.turn


def test_the_judge_says_better_only_of_what_is_better() -> None:
    chance = np.random.default_rng(0)
    champion = chance.normal(size=40)
    same, better = champion + chance.normal(size=40) * 0.1, champion + 1
    better += chance.normal(size=40) * 0.3
    assert not judge.better_than(list(same), list(champion), Account()).keep
    assert judge.better_than(list(better), list(champion), Account()).keep


def test_a_spec_becomes_a_model_and_the_model_answers() -> None:
    trained = fit(Recipe("linear", min_df=1), Examples(TEXTS, LABELS, NAMES))
    runner = Runner(build_graph(trained, int8=True), trained.featurizer)
    answers = runner.logits(["is my parcel on its way", "refund me the money"]).argmax(1)
    assert [NAMES[i] for i in answers] == ["delivery", "refund"]


def test_a_round_of_a_trial_measures_score_size_and_latency() -> None:
    rows = Rows(tuple(TEXTS), tuple(NAMES[i] for i in LABELS), tuple(NAMES), np.arange(40) % 5)
    spec = TextSpec(fields={"family": "dual", "epochs": 2, "min_df": 1})
    measured = measure_fold(KINDS["classify"], spec, rows, fold=0, seed=0)
    whole, small = measured.forms["float32"], measured.forms["int8"]
    assert 0 <= whole.score <= 1
    assert small.n_bytes < whole.n_bytes
    assert small.latency_ms > 0 and small.n_params > 0
