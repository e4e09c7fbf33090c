"""Training of sequence models: the same losses resumed, replayed, batched, and as microgpt.py's."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import microgpt
from mendel.data.corpus import Tokens
from mendel.formats import native
from mendel.model import Model, build
from mendel.presets import PRESETS, load_recipe, override
from mendel.spec import ModelSpec, SpecError, TrainSpec
from mendel.train import checkpoint, grouping
from mendel.train.group import Group, MemoryShort, mean_squared_log_sum
from mendel.train.job import Request, prepare
from mendel.train.optim import AdamW, OptimSpec
from mendel.train.run import Training, train
from mendel.types import InputError

TINY = {"width": 16, "n_layers": 2, "context": 16, "vocab": 30, "mixers": [{"part": "attention"}]}
TEXT = "the cat sat on the mat, and the dog lay on the log; what the rat had, nobody knew.\n"


pytestmark = pytest.mark.usefixtures("one_thread")


def data(n: int = 2000) -> Tokens:
    """A stream with something to learn: each id follows from the one before, nearly always."""
    rng = np.random.default_rng(0)
    steps = np.where(rng.random(n) < 0.9, 1, 7)
    ids = (np.cumsum(steps) % 30).astype(np.uint16)
    return Tokens(ids[: n * 9 // 10], ids[n * 9 // 10 :], 30)


def spec(**changes: object) -> ModelSpec:
    return ModelSpec.parse({**TINY, **changes})


def how(**changes: object) -> TrainSpec:
    return TrainSpec.parse({"budget": "30steps", "batch": 4, "n_evaluations": 2, **changes})


def as_microgpt(reference: microgpt.GPT) -> Model:
    """The engine's model with the weights of the readable file, in float64."""
    model_spec, _ = load_recipe("microgpt")
    model = build(model_spec.model_copy(update={"vocab": len(reference.chars) + 1})).double()
    names = {"attn_wq": "mixer.q", "attn_wk": "mixer.k", "attn_wv": "mixer.v"}
    names |= {"attn_wo": "mixer.out", "mlp_fc1": "channel.up", "mlp_fc2": "channel.out"}
    places = {"wte": "embedding.tokens", "wpe": "embedding.positions", "lm_head": "head.logits"}
    places |= {f"layer0.{ours}": f"layers.0.{its}" for ours, its in names.items()}
    tensors = {
        f"{places[name]}.weight": torch.tensor(
            [[w.data for w in row] for row in matrix], dtype=torch.float64
        )
        for name, matrix in reference.state.items()
    }
    model.load_state_dict(tensors)
    return model


def test_the_engine_learns_as_the_readable_file_does() -> None:
    """The golden test: 25 steps of Adam on names, losses equal to 1e-9 in float64."""
    rng = Random(42)
    docs = microgpt.SHIPPED.split()
    rng.shuffle(docs)
    reference = microgpt.GPT(docs, rng, 16, 4, 1, 16)
    model = as_microgpt(reference)
    params = dict(model.named_parameters())
    fields = OptimSpec(kind="adamw", lr=0.01, beta1=0.85, beta2=0.99, weight_decay=0.0)
    optimizer = AdamW(params, fields)
    n = 25
    for step in range(n):
        doc = docs[step % len(docs)]
        ids = [reference.bos, *map(reference.chars.index, doc), reference.bos]
        tokens = torch.tensor([ids])
        loss = model.head.loss(model(tokens[:, :-1])[0], tokens[:, 1:])
        grads = torch.autograd.grad(loss, list(params.values()))
        optimizer.step(dict(zip(params, grads, strict=True)), 1 - step / n)
        wanted = reference.learn(doc, rate=0.01 * (1 - step / n))
        assert abs(loss.item() - wanted) < 1e-9, f"step {step}: {loss.item()} against {wanted}"


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns(preset: str) -> None:
    small = ["vocab=30", "context=16", "width=16", "budget=60steps", "batch=8", "lr=0.01"]
    model, train_spec = override(*load_recipe(preset), [*small, "n_evaluations=1"])
    outcome = train(model, train_spec, data())
    losses = outcome.curves[train_spec.seed].losses
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    assert outcome.result.error is None and outcome.finished


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_resumed_run_gives_the_losses_of_one_that_was_never_stopped(
    tmp_path: Path, optimizer: str, n_seeds: int
) -> None:
    fields = how(optimizer=optimizer, n_seeds=n_seeds)
    whole = Training(spec(), fields, data(), together=True).run()

    def stop(progress: object) -> None:
        if first.pace.step == 13:
            signal.raise_signal(signal.SIGINT)

    first = Training(spec(), fields, data(), folder=tmp_path, together=True)
    stopped = first.run(stop)
    assert not stopped.finished
    resumed = Training(spec(), fields, data(), folder=tmp_path, resume=True).run()
    assert resumed.curves[0].evaluations == whole.curves[0].evaluations
    for seed, curve in whole.curves.items():
        assert resumed.curves[seed].losses == curve.losses
    assert resumed.result.scores == whole.result.scores
    ours, theirs = resumed.models[0].state_dict(), whole.models[0].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_muon_trains_the_matrices_between_layers_and_nothing_else() -> None:
    mixers = ["gated_delta_net", "rwkv7", "path_gated_fusion", "hyena"]
    group = Group(spec(mixers=mixers, n_layers=4), how(optimizer="muon"), (0,), torch.device("cpu"))
    chosen = {name.split(".", 1)[1] for name in group.optimizer.state_tensors() if "muon." in name}
    chosen = {name.removesuffix(".momentum") for name in chosen}
    modules = dict(group.model.named_modules())
    for name, value in group.params.items():
        owner = modules[name.rpartition(".")[0]]
        inner = name.startswith("layers.") and isinstance(owner, torch.nn.Linear)
        assert (name in chosen) is (inner and value.dim() == 2 and min(value.shape) > 1), name


def test_seeds_in_one_batched_run_are_the_seeds_one_by_one() -> None:
    fields = how(n_seeds=3, clip=0.5)
    model = spec(mixers=["attention", "gated_delta_net"])
    device = torch.device("cpu")
    together = Group(model, fields, (0, 1, 2), device)
    apart = [Group(model, fields, (seed,), device) for seed in range(3)]
    for step in range(8):
        batched = together.step(data(), step, 1.0)
        single = [group.step(data(), step, 1.0)[0] for group in apart]
        assert batched == pytest.approx(single, rel=2e-4)
    assert together.evaluate(data()) == pytest.approx(
        [group.evaluate(data())[0] for group in apart], rel=2e-4
    )
    assert len(set(batched)) == 3, "different seeds have different losses"


def test_z_loss_holds_the_logits_down_and_the_losses_told_are_nats_alone() -> None:
    device = torch.device("cpu")
    plain, held = (Group(spec(), how(z_loss=z, lr=1e-2), (0,), device) for z in (0.0, 1.0))
    x, y = data().batch(np.random.default_rng(1), 8, 16)
    assert plain.step(data(), 0, 1.0) == held.step(data(), 0, 1.0), "before a step: the same nats"
    for step in range(1, 30):
        for group in (plain, held):
            group.step(data(), step, 1.0)
    sums = [mean_squared_log_sum(group.model(x)[0].detach(), y) for group in (plain, held)]
    assert sums[1] < 0.2 * sums[0]
    with torch.no_grad():
        nats = float(held.model.head.loss(held.model(x)[0], y))
        assert float(held.losses(x, y)[0]) == pytest.approx(nats)


def test_z_loss_is_the_mean_square_of_log_sum_exp_where_something_is_asked() -> None:
    logits = torch.tensor([[[0.0, 0.0], [1.0, 3.0], [50.0, 2.0]]])
    targets = torch.tensor([[0, 1, -1]])
    wanted = (math.log(2) ** 2 + math.log(math.e + math.e**3) ** 2) / 2
    assert float(mean_squared_log_sum(logits, targets)) == pytest.approx(wanted)
    assert float(mean_squared_log_sum(logits, torch.full((1, 3), -1))) == 0.0


def test_z_loss_of_seeds_in_one_batched_run_is_that_of_each() -> None:
    fields, device = how(n_seeds=2, z_loss=0.1, optimizer="muon"), torch.device("cpu")
    together = Group(spec(), fields, (0, 1), device)
    apart = [Group(spec(), fields, (seed,), device) for seed in range(2)]
    for step in range(6):
        batched = together.step(data(), step, 1.0)
        assert batched == pytest.approx(
            [group.step(data(), step, 1.0)[0] for group in apart], rel=2e-4
        )


def test_what_is_faster_is_measured_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (spec(), how(), 2, data(), torch.device("cpu"))
    first = grouping.batched_is_faster(*arguments)
    monkeypatch.setattr(grouping, "time_ways", lambda *_: pytest.fail("measured again"))
    assert grouping.batched_is_faster(*arguments) == first


def test_a_diverged_loss_is_a_failed_result_that_names_its_step() -> None:
    fields = how(n_seeds=2, clip=0.0)
    training = Training(spec(), fields, data(), together=True)
    [group] = training.groups

    def poison(progress: object) -> None:
        if training.pace.step == 5:
            with torch.no_grad():
                next(iter(group.params.values()))[1] = math.nan  # of seed 1 alone

    outcome = training.run(poison)
    assert outcome.result.error is not None and "seed 1" in outcome.result.error
    assert "step 6" in outcome.result.error and outcome.result.scores == ()
    assert outcome.curves[0].diverged is None and math.isfinite(outcome.curves[0].losses[-1])


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(tmp_path: Path) -> None:
    """Real signals at odd moments: the checkpoint is always of a whole step."""
    whole = Training(spec(), how(), data()).run().curves[0].losses
    for delay in (0.001, 0.004, 0.02, 0.03, 0.045):
        training = Training(spec(), how(), data(), folder=tmp_path)
        alarm = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))

        def begin(progress: object, alarm: threading.Timer = alarm) -> None:
            if not alarm.ident:
                alarm.start()
            time.sleep(0.004)  # so that the run lasts longer than the alarm

        stopped = training.run(begin)
        alarm.join()
        assert not stopped.finished and len(stopped.curves[0].losses) == training.pace.step
        resumed = Training(spec(), how(), data(), folder=tmp_path, resume=True).run()
        assert resumed.curves[0].losses == whole


def test_a_run_that_diverged_keeps_its_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mendel.train.run.SAVE_EVERY_S", 0.0)
    training = Training(spec(), how(), data(), folder=tmp_path)

    def poison(progress: object) -> None:
        if training.pace.step == 9:
            with torch.no_grad():
                next(iter(training.groups[0].params.values())).fill_(math.nan)

    assert training.run(poison).result.error is not None
    facts, [state] = checkpoint.load(tmp_path)
    assert facts["pace"]["step"] == 8
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())


def test_weights_that_break_in_the_last_step_are_a_failed_result() -> None:
    training = Training(spec(), how(budget="3steps", n_evaluations=1), data())
    real = training.groups[0].evaluate
    training.groups[0].evaluate = lambda source: [math.nan * x for x in real(source)]  # type: ignore[method-assign]
    result = training.run().result
    assert result.error is not None and "step 3" in result.error and result.scores == ()


def test_a_replay_can_be_stopped_and_resumed(tmp_path: Path) -> None:
    timed = Training(spec(), how(budget="1s"), data()).run()
    replay = {"replay": timed.pace, "folder": tmp_path}
    first = Training(spec(), how(budget="1s"), data(), **replay)  # type: ignore[arg-type]

    def stop(progress: object) -> None:
        if first.pace.step == 2:
            raise KeyboardInterrupt

    first.run(stop)
    with pytest.raises(InputError, match="the same --replay"):
        Training(spec(), how(budget="1s"), data(), folder=tmp_path, resume=True)
    resumed = Training(spec(), how(budget="1s"), data(), resume=True, **replay).run()  # type: ignore[arg-type]
    assert resumed.curves[0].losses == timed.curves[0].losses


def test_flops_do_not_depend_on_how_seeds_are_grouped() -> None:
    for mixer in ("short_conv", "gated_delta_net", "path_gated_fusion"):
        counts = {
            Training(spec(mixers=[mixer]), how(n_seeds=2), data(), together=together).flops_per_step
            for together in (True, False)
        }
        assert len(counts) == 1, mixer


def test_when_all_seeds_diverge_the_run_ends_at_once() -> None:
    training = Training(spec(), how(budget="1000steps"), data())
    with torch.no_grad():
        next(iter(training.groups[0].params.values())).fill_(math.inf)
    assert len(training.run().curves[0].losses) == 1


@pytest.mark.parametrize("budget, n", [("7steps", 7), ("640tokens", 10), ("1e7flops", None)])
def test_a_budget_is_spent_and_not_more(budget: str, n: int | None) -> None:
    training = Training(spec(), how(budget=budget), data())
    outcome = training.run()
    steps = len(outcome.curves[0].losses)
    assert steps == (n or max(1, int(1e7 // training.flops_per_step)))


def test_a_run_timed_in_seconds_is_replayed_by_its_recorded_schedule() -> None:
    timed = Training(spec(), how(budget="1s"), data()).run()
    again = Training(spec(), how(budget="1s"), data(), replay=timed.pace).run()
    assert again.curves[0].losses == timed.curves[0].losses and len(timed.curves[0].losses) > 3


def test_a_checkpoint_of_another_spec_is_refused_and_its_field_named(tmp_path: Path) -> None:
    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    Training(spec(), how(), data(), folder=tmp_path).run(stop)
    with pytest.raises(InputError, match=r"lr: 0.003, now 0.1"):
        Training(spec(), how(lr=0.1), data(), folder=tmp_path, resume=True)
    file = tmp_path / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        Training(spec(), how(), data(), folder=tmp_path, resume=True)


def test_seeds_that_do_not_fit_together_train_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Group._terms

    def short(self: Group, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.stacked:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, x, y)

    monkeypatch.setattr(Group, "_terms", short)
    training = Training(spec(), how(n_seeds=2, budget="3steps"), data())
    assert len(training.groups) == 2 and len(training.run().result.scores) == 2


def test_out_of_memory_says_the_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(spec(), how(batch=64), (0,), torch.device("cpu"))
    real = Group._terms

    def short(self: Group, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if len(x) > 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(self, x, y)

    monkeypatch.setattr(Group, "_terms", short)
    with pytest.raises(MemoryShort, match=r"batch=64 .* A batch of 8 fits: set batch=8"):
        group.step(data(), 0, 1.0)


OOM = """
import resource, torch
from tests.test_train import data, how, spec
from mendel.train.group import Group
torch.set_num_threads(1)
group = Group(spec(width=64), how(batch=20000), (0,), torch.device("cpu"))
group.batch(data(), 0)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000, used + 300_000_000))
group.step(data(), 0, 1.0)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_machine_that_is_really_out_of_memory_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OOM], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert "MemoryShort" in done.stderr, done.stderr[-2000:]
    assert "fits: set batch=" in done.stderr


def request(tmp_path: Path, **changes: object) -> Request:
    file = tmp_path / "text.txt"
    if not file.exists():
        file.write_text(TEXT * 30)
    model, fields = override(
        *load_recipe("modern"),
        ["width=16", "n_layers=1", "context=16", "budget=20steps", "batch=4", "tokenizer=chars"],
    )
    return replace(Request(model, fields, file, tmp_path / "out"), **changes)  # type: ignore[arg-type]


def test_a_job_writes_a_folder_that_can_be_loaded_and_trained_again(tmp_path: Path) -> None:
    outcome = prepare(request(tmp_path)).run(lambda progress: None)
    model, tokenizer = native.load(tmp_path / "out")
    assert tokenizer is not None and tokenizer.encode("cat").tolist()
    ids = torch.randint(0, model.spec.vocab, (2, 16))
    assert torch.equal(model(ids)[0], outcome.models[0](ids)[0])
    recipe = load_recipe(str(tmp_path / "out" / "recipe.toml"))
    assert recipe == (model.spec, request(tmp_path).train)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["finished"] and not (tmp_path / "out" / checkpoint.FILE).exists()
    assert run["nats"]["0"] == pytest.approx(-outcome.result.scores[0])


def test_several_seeds_have_a_folder_each(tmp_path: Path) -> None:
    asked = request(tmp_path)
    two = asked.train.model_copy(update={"n_seeds": 2})
    prepare(replace(asked, train=two)).run(lambda progress: None)
    weights = [native.load(tmp_path / "out" / f"seed-{i}")[0].head.logits.weight for i in (0, 1)]
    assert not torch.equal(*weights)


def test_bad_input_is_named_before_anything_is_written(tmp_path: Path) -> None:
    good = request(tmp_path)

    def with_model(**changes: object) -> Request:
        return replace(good, model=ModelSpec.parse({**good.model.to_dict(), **changes}))

    cases = {
        r"no mixer is called 'gated_delta_nte'. Did you mean 'gated_delta_net'": with_model(
            mixers=["gated_delta_nte"]
        ),
        r"attention has no field 'n_head'. Did you mean 'n_heads'": with_model(
            mixers=[{"part": "attention", "n_head": 2}]
        ),
        r"n_heads=3 does not divide width=16": with_model(
            mixers=[{"part": "attention", "n_heads": 3}]
        ),
        r"vocab=5 is smaller than the \d+ tokens": with_model(vocab=5),
        r"context=5000 .* Set context=\d+ or less": with_model(context=5000),
        r"there is no .*nowhere": replace(good, data=tmp_path / "nowhere"),
        r"'12parsec' is no budget": replace(
            good, train=good.train.model_copy(update={"budget": "12parsec"})
        ),
        r"nothing to resume": replace(good, resume=True),
    }
    for message, asked in cases.items():
        with pytest.raises(InputError, match=message):
            prepare(asked).run(lambda progress: None)
        out = tmp_path / "out"
        assert not out.exists() or {file.name for file in out.iterdir()} <= {".lock"}, message


def test_the_folder_that_is_written_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text(TEXT * 5)
    asked = request(tmp_path, data=tmp_path)

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    before = prepare(asked)
    assert not before.run(stop).finished
    again = prepare(replace(asked, resume=True))
    assert again.split.record() == before.split.record()
    assert again.run(lambda progress: None).finished


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mendel.train.run.SAVE_EVERY_S", 0.0)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    outcome = prepare(request(tmp_path)).run(lambda progress: None)
    assert outcome.finished and "No space left" in outcome.notices[0]
    assert native.load(tmp_path / "out")[0].n_params > 0


def test_a_recipe_with_a_field_in_the_wrong_place_says_where_it_belongs(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    for text, message in (
        ("lr = 0.1\n[model]\nwidth = 8", r"'lr' outside its tables. It belongs in \[train\]"),
        ("[modle]\nwidth = 8", r"'modle' outside its tables"),
        ("model = 5", r"model=5 is no table"),
    ):
        file.write_text(text)
        with pytest.raises(SpecError, match=message):
            load_recipe(str(file))


def test_a_full_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not empty"):
        prepare(request(tmp_path))


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    first, second = prepare(request(tmp_path)), prepare(request(tmp_path))
    messages = []

    def begin_another(progress: object) -> None:
        if not messages:
            with pytest.raises(InputError) as caught:
                second.run(lambda progress: None)
            messages.append(str(caught.value))

    assert first.run(begin_another).finished
    assert "being written by another run" in messages[0]


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path) -> None:
    prepare(request(tmp_path)).run(lambda progress: None)
    with pytest.raises(InputError, match="has finished"):
        prepare(request(tmp_path, resume=True))


def test_another_text_is_not_resumed_on(tmp_path: Path) -> None:
    job = prepare(request(tmp_path))

    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    assert not job.run(stop).finished
    (tmp_path / "text.txt").write_text(TEXT * 31)
    with pytest.raises(InputError, match="not the one"):
        prepare(request(tmp_path, resume=True))


@pytest.mark.parametrize(
    "setting, message",
    [
        ("widht=3", "Did you mean 'width'"),
        ("width", "wanted name=value"),
        ("mixers.4.window=3", "there is no mixers.4"),
        ("mixers.window=3", "is a list"),
        ("width=-3", "width=-3"),
        ("train.lr=fast", "lr='fast'"),
        ("width.x=3", "is a number and has no fields"),
        ("mixers=[gla, attention]", "need quotes"),
        ("seed=99999999999999999999999", "seed"),
        ("n_layers=100000000", "n_layers"),
    ],
)
def test_a_wrong_setting_is_explained(setting: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        override(*load_recipe("modern"), [setting])


def test_settings_reach_into_parts() -> None:
    model, fields = override(
        *load_recipe("hybrid"), ["mixers.3.window=8", "mixers.0.n_heads=2", "lr=0.1", "tied=true"]
    )
    assert model.mixers[3].fields["window"] == 8 and model.mixers[0].fields == {"n_heads": 2}
    assert fields.lr == 0.1 and model.tied
    with pytest.raises(
        SpecError, match=r"neither a preset nor a TOML file\. Did you mean 'modern'"
    ):
        load_recipe("modrn")


def run_until_it_trains_then_ctrl_c(command: list[str], folder: Path) -> str:
    """What it says after Ctrl-C; it ends with exit code 130."""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("step"):
                break
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130, rest
    return rest


def test_ctrl_c_keeps_the_model_and_resume_goes_on(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 200)
    command = [sys.executable, "-m", "mendel", "train", "modern", "--data", "text.txt"]
    command += ["--set", "width=16", "--set", "context=16", "--set", "n_layers=1", "--out", "o"]
    command += ["--tokenizer", "chars", "--budget", "100000steps", "--set", "batch=2"]
    assert "--resume" in run_until_it_trains_then_ctrl_c(command, tmp_path)
    assert native.load(tmp_path / "o")[0].spec.width == 16
    run = tmp_path / "o" / "run.json"
    before = json.loads(run.read_text())["step"]
    run_until_it_trains_then_ctrl_c([*command, "--resume"], tmp_path)
    assert json.loads(run.read_text())["step"] > before > 0


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_gives_the_losses_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = how(dtype="float32")
    monkeypatch.setenv("MENDEL_DEVICE", "cpu")
    wanted = train(spec(), fields, data()).curves[0].losses
    monkeypatch.setenv("MENDEL_DEVICE", "cuda")
    assert train(spec(), fields, data()).curves[0].losses == pytest.approx(wanted, rel=1e-2)
