"""Early exits: shallow answers come nearer to the whole model's, and a run stays repeatable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mendel.cli import app
from mendel.data.corpus import Tokens
from mendel.data.tokenizers import make_tokenizer
from mendel.model import build
from mendel.presets import load_recipe
from mendel.spec import ModelSpec, SpecError, TrainSpec
from mendel.train.exits import EarlyExit, agreement, drop_chances, exit_of, layers_kept
from mendel.train.group import Group
from mendel.train.job import Request, prepare
from mendel.train.run import Training, train

pytestmark = pytest.mark.usefixtures("one_thread")

README = Path(__file__).parents[1] / "README.md"
CPU = torch.device("cpu")
EXITS = {"exit_loss": 1.0, "layer_dropout": 0.1}


def text() -> Tokens:
    """The bytes of this project's README: real text that is always there."""
    raw = README.read_text(encoding="utf-8")
    ids = np.array(make_tokenizer("bytes", "").encode(raw), dtype=np.uint16)
    return Tokens(ids[:-3000], ids[-3000:], 256)


def spec(**changes: object) -> ModelSpec:
    fields = {"width": 32, "n_layers": 4, "context": 32, "vocab": 256}
    return ModelSpec.parse({**fields, **changes})


def how(**changes: object) -> TrainSpec:
    fields = {"budget": "300steps", "batch": 8, "n_evaluations": 1, "lr": 1e-2}
    return TrainSpec.parse({**fields, **changes})


def test_a_shallow_exit_agrees_more_with_a_model_trained_with_exits_on_every_seed() -> None:
    source = text()
    x = torch.from_numpy(source.val[:2048].astype(np.int64)).reshape(-1, 32)
    gains, costs = [], []
    for seed in range(3):
        plain, exits = (train(spec(), how(seed=seed, **more), source) for more in ({}, EXITS))
        shares = [agreement(outcome.models[0], x) for outcome in (plain, exits)]
        gains.append([after - before for before, after in zip(*shares, strict=True)])
        costs.append(plain.result.scores[0] - exits.result.scores[0])
    assert all(gain > 0.05 for of_seed in gains for gain in of_seed[:2]), gains
    assert all(cost < 0.2 for cost in costs), costs  # nats: the whole model is not given up for it


def test_exits_of_seeds_in_one_batched_run_are_those_of_each() -> None:
    fields, source = how(n_seeds=2, **EXITS), text()
    both = Group(spec(), fields, (0, 1), CPU)
    apart = [Group(spec(), fields, (seed,), CPU) for seed in (0, 1)]
    for step in range(3):
        together = both.step(source, step, 1.0)
        alone = [group.step(source, step, 1.0)[0] for group in apart]
        assert together == pytest.approx(alone, rel=1e-4)


def test_the_losses_told_are_those_of_the_whole_model_without_its_exit() -> None:
    fields, source = how(exit_loss=0.5), text()  # no layer is left out: the output is the model's
    group = Group(spec(), fields, (0,), CPU)
    x, y = group.batch(source, 0)
    with torch.no_grad():
        wanted = group.losses(x, y).tolist()
    assert group.step(source, 0, 1.0) == pytest.approx(wanted, rel=1e-5)


def test_a_run_with_exits_is_replayed_and_resumed_with_the_same_losses(tmp_path: Path) -> None:
    fields, source = how(budget="12steps", **EXITS), text()
    whole = Training(spec(), fields, source).run()
    again = Training(spec(), fields, source, replay=whole.pace).run()
    stopped = Training(spec(), fields, source, folder=tmp_path)

    def stop(progress: object) -> None:
        if stopped.pace.step == 5:
            raise KeyboardInterrupt

    assert not stopped.run(stop).finished
    rest = Training(spec(), fields, source, folder=tmp_path, resume=True).run()
    assert whole.curves[0].losses == again.curves[0].losses == rest.curves[0].losses


def test_a_layer_that_a_window_skips_changes_nothing_of_it() -> None:
    model = build(spec()).eval()
    x = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(0))
    kept = torch.ones(4, 2, dtype=torch.bool)
    kept[1:, 1] = False  # the second window passes the first layer alone
    with torch.no_grad():
        whole, early = EarlyExit(model)(x, 1, kept)
        assert torch.equal(whole[1], early[1]) and not torch.equal(whole[0], early[0])
        assert torch.allclose(whole[:1], model(x[:1])[0], atol=1e-6)


def test_layers_are_left_out_as_often_as_the_recipe_says_and_the_first_one_never() -> None:
    fields = how(layer_dropout=0.3, batch=64)
    kept = torch.stack([layers_kept(fields, 4, 7, step) for step in range(400)])
    shares = 1 - kept.double().mean((0, 2))
    assert shares[0] == 0
    assert shares.tolist() == pytest.approx(drop_chances(0.3, 4).tolist(), abs=0.01)
    assert shares[3] == pytest.approx(0.3, abs=0.01)
    assert {exit_of(step, 4) for step in range(9)} == {1, 2, 3}


def test_exits_cost_what_they_add_and_a_budget_of_flops_counts_it() -> None:
    source = text()
    plain, exits = (Group(spec(), how(**more), (0,), CPU) for more in ({}, EXITS))
    head = 3 * 2 * 32 * 32 * 256  # forward and two products backward, of 32 places
    more = exits.flops_of_a_window(source) - plain.flops_of_a_window(source)
    assert more == pytest.approx(head, rel=0.01)


@pytest.mark.parametrize("field", EXITS)
def test_exits_of_a_model_of_one_layer_are_refused_with_the_reason(
    field: str, tmp_path: Path
) -> None:
    fields = TrainSpec.parse({"budget": "1steps", field: 0.5})
    request = Request(spec(n_layers=1), fields, README, tmp_path / "out")
    with pytest.raises(SpecError, match=f"{field}=0.5 with n_layers=1"):
        prepare(request)
    assert not (tmp_path / "out").exists()


def test_the_command_records_its_exits_in_the_recipe_that_repeats_it(tmp_path: Path) -> None:
    small = ["width=16", "n_layers=2", "context=16", "batch=2"]
    sets = [word for each in small for word in ("--set", each)]
    command = ["train", "modern", "--data", str(README), "--budget", "4steps", *sets]
    one, other = tmp_path / "one", tmp_path / "other"
    done = CliRunner().invoke(app, [*command, "--early-exit", "--out", str(one)])
    assert done.exit_code == 0, done.output
    _, recipe = load_recipe(str(one / "recipe.toml"))
    assert recipe.exit_loss == 1.0 and recipe.layer_dropout == 0.1
    again = ["train", str(one / "recipe.toml"), "--data", str(README), "--out", str(other)]
    assert CliRunner().invoke(app, again).exit_code == 0
    losses = [json.loads((run / "run.json").read_text())["nats"] for run in (one, other)]
    assert losses[0] == losses[1]


def test_recipes_from_before_there_were_exits_keep_their_hash() -> None:
    assert not {"exit_loss", "layer_dropout"} & TrainSpec().to_dict().keys()
