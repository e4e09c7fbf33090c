"""What answers are: texts that go on from their prompts, the same for the same seed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_a_text_begins_with_its_prompt_and_the_same_seed_gives_the_same() -> None:
    for prompt in ("", "a", TEXTS[0][:3]):
        [one], [same] = (MODEL.predict([prompt], seed=3, length=20) for _ in range(2))
        begins = prompt.replace("\u2424", "\n")  # which stands for a line break in a line
        assert one.texts[0].startswith(begins) and one == same


def test_other_seeds_give_other_texts_and_temperature_0_does_not() -> None:
    [drawn] = MODEL.predict([""], n=8, temperature=1.0, length=20)
    [likeliest] = MODEL.predict([""], n=2, temperature=0.0, length=20)
    assert len(set(drawn.texts)) > 1 and len(set(likeliest.texts)) == 1


def test_a_text_goes_on_as_it_would_have_from_its_half() -> None:
    [whole] = MODEL.predict([""], seed=1, length=16)
    half = whole.texts[0].encode()[:4].decode("utf-8", "ignore")
    [again] = MODEL.predict([half], seed=1, length=16 - len(half.encode()))
    assert again == whole


def test_what_a_text_costs_is_the_sum_over_its_bytes_and_its_end() -> None:
    for text, answer in zip(TEXTS, MODEL.predict(TEXTS, score=True), strict=True):
        assert answer.n_bytes == len(text.replace("\u2424", "\n").encode()) + 1
        costs = MODEL.outputs([text])[0]
        assert math.isclose(answer.bits or 0, float(np.sum(costs)), rel_tol=1e-4)


def test_texts_drawn_together_are_those_drawn_alone() -> None:
    [together] = MODEL.predict([""], n=3, seed=5, length=20)
    alone = [MODEL.predict([""], seed=5 + i, length=20)[0].texts[0] for i in range(3)]
    assert list(together.texts) == alone


def test_the_bytes_after_a_prompt_have_probabilities_that_sum_to_one() -> None:
    prompt = TEXTS[0][:5]
    arrays = MODEL.features.arrays([prompt])
    total = 0.0
    for symbol in range(257):
        arrays["targets"][0, -1] = symbol
        total += 2.0 ** -float(MODEL._session.run(["bits"], arrays)[0][0, -1])
    assert math.isclose(total, 1, abs_tol=1e-3)


@pytest.mark.parametrize("flags", [["--temperature", "-1"], ["--top-p", "0"], ["--n", "0"]])
def test_a_number_out_of_range_is_refused(flags: list[str]) -> None:
    command = [sys.executable, str(FOLDER / "predict.py"), *flags, "a"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "wanted" in done.stderr
