"""What answers are: a label with its probability, or none below the threshold."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from predict import Model

FOLDER = Path(__file__).resolve().parents[1]
TEXTS: list[str] = json.loads((FOLDER / "golden.json").read_bytes())["texts"]
MODEL = Model()


def test_every_label_can_be_listed_and_shares_sum_to_one() -> None:
    for answer in MODEL.predict(TEXTS, top=len(MODEL.labels), abstain=False):
        assert sorted(label for label, _ in answer.top) == sorted(MODEL.labels)
        assert math.isclose(sum(p for _, p in answer.top), 1, rel_tol=1e-9)
        assert answer.label == answer.top[0][0]
        assert answer.probability == max(p for _, p in answer.top)


def test_it_abstains_above_the_threshold_and_only_there() -> None:
    for answer in MODEL.predict(TEXTS):
        assert (answer.label is None) == (answer.outside > MODEL.decoder.outside_above)
        assert 0 < answer.probability <= 1


def test_a_set_holds_the_best_label_first_and_none_twice() -> None:
    for answer in MODEL.predict(TEXTS):
        assert answer.set[0] == answer.top[0][0] and len(set(answer.set)) == len(answer.set)


def test_the_commands_flags_do_what_they_say() -> None:
    argv = [sys.executable, str(FOLDER / "predict.py"), "--top", "2", "--no-abstain", "x"]
    answer = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert answer["label"] in MODEL.labels
    assert len(answer["top"]) == min(2, len(MODEL.labels))
