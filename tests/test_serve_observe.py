"""What the observer tells of layers, traffic and machine is so, and stays small and cheap."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from mendel.model import Model, build
from mendel.serve.observe.layers import LONGEST, _weights, look
from mendel.serve.observe.machine import Machine, rss
from mendel.serve.observe.observer import Observer
from mendel.serve.observe.running import MOST_CLASSES, REST, Layers, Traffic
from mendel.serve.observe.show import table
from mendel.serve.protocols import Features, Trace
from mendel.spec import ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = [int(i) for i in np.random.default_rng(0).integers(0, 60, 40)]
FEATURES = Features(100, 40, 50, 0.2, False, False, 0, 0)
TRACE = Trace("a", FEATURES, "plain", "chosen", "", 50, 20, 60, 30, 0, 0.01, 0.49, 0.5, "stop", 0)
SMALL: dict[str, Any] = {"vocab": 60, "width": 16, "n_layers": 2}
PARTS = {
    "attention": SMALL | {"n_layers": 3},
    "grouped": SMALL
    | {"mixers": {"part": "attention", "n_kv_heads": 2, "window": 8, "qk_norm": True}},
    "hybrid": SMALL | {"mixers": ["gated_delta_net", "attention"]},
    "bare": SMALL | {"channels": [], "final_norm": False},
}


def made(name: str) -> Model:
    return build(ModelSpec.parse(PARTS[name]), seed=1)


@pytest.fixture(params=PARTS)
def model(request: pytest.FixtureRequest) -> Model:
    return made(request.param)


def test_a_look_has_a_number_for_each_layer_and_changes_nothing(model: Model) -> None:
    before, _ = model(torch.tensor([IDS]))
    seen = look(model, IDS)
    n = model.spec.n_layers
    assert seen.influence.shape == seen.sparsity.shape == seen.exit.shape == (n,)
    assert seen.exit.sum() == pytest.approx(1)
    assert np.all((seen.influence >= -1e-6) & (seen.influence <= 2))
    assert np.isfinite(seen.intensity).all() and len(seen.intensity) == len(IDS)
    after, _ = model(torch.tensor([IDS]))
    assert torch.equal(before, after)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_layer_that_adds_nothing_has_no_influence() -> None:
    model = made("attention")
    with torch.no_grad():
        for name, weight in model.layers[1].named_parameters():
            if ".out" in name:
                weight.zero_()
    seen = look(model, IDS)
    assert seen.influence[1] == pytest.approx(0, abs=1e-6)
    assert min(seen.influence[0], seen.influence[2]) > 1e-3
    assert seen.exit[1] == 0  # nothing is decided where nothing is done


def test_where_later_layers_do_nothing_all_is_decided_at_the_first() -> None:
    model = made("attention")
    with torch.no_grad():
        for layer in list(model.layers)[1:]:
            for name, weight in layer.named_parameters():
                if ".out" in name:
                    weight.zero_()
    assert look(model, IDS).exit.tolist() == [1, 0, 0]


def test_the_weights_of_heads_are_those_that_attention_uses() -> None:
    for name in ("attention", "grouped"):
        model = made(name)
        mixer = model.layers[0].mixer
        x = torch.randn(1, 20, 16)
        with torch.inference_mode():
            weights, values = _weights(mixer, x)
            y = mixer.out((weights @ values).transpose(1, 2).reshape(1, 20, -1))
            assert torch.allclose(y, mixer(x, naive=True)[0], atol=1e-5)


def test_entropy_and_use_of_uniform_heads() -> None:
    model = made("attention")
    with torch.no_grad():
        for layer in model.layers:
            layer.mixer.q.weight.zero_()  # all scores alike
            layer.mixer.v.weight[:4].zero_()  # the first head adds nothing
    seen = look(model, IDS)
    wanted = np.mean(np.log(np.arange(1, len(IDS) + 1)))
    assert seen.entropy[0] == pytest.approx(np.full(4, wanted), rel=1e-4)
    use = seen.use[0]
    assert use is not None
    assert use[0] == pytest.approx(0, abs=1e-6)
    assert use.sum() == pytest.approx(1)


def test_sparsity_is_the_share_of_units_that_are_off() -> None:
    relu = {"part": "mlp", "act": "relu"}
    model = build(ModelSpec.parse({"vocab": 60, "width": 16, "channels": relu}), seed=1)
    with torch.no_grad():
        model.layers[0].channel.up.weight[:48].zero_()  # of 64
    seen = look(model, IDS)
    assert seen.sparsity[0] >= 0.75
    assert 0.3 < seen.sparsity[1] < 0.75


def test_long_texts_are_looked_at_by_their_end() -> None:
    model = made("attention")
    assert len(look(model, IDS * 20).intensity) == LONGEST


def test_traffic_counts_what_traces_say() -> None:
    traffic = Traffic()
    for i in range(100):
        traffic.add(replace(TRACE, first_token_s=0.01 * (1 + (i == 99))))
    told = traffic.to_dict()
    assert told["acceptance"] == 0.5
    assert told["cached_tokens"] == 0.4
    assert told["cache_hits"] == 1
    assert told["first_token_ms"] == {"p50": 10.0, "p95": 10.0}
    assert told["token_ms"] == {"p50": 10.0, "p95": 10.0}


def test_what_it_keeps_does_not_grow() -> None:
    import tracemalloc

    observer = Observer(None, class_of=lambda f: f"class {f.n_prompt}")
    for i in range(2_000):
        observer.heard(replace(TRACE, features=replace(FEATURES, n_prompt=100 + i % 40)))
    tracemalloc.start()
    for i in range(5_000):
        observer.heard(replace(TRACE, features=replace(FEATURES, n_prompt=100 + i % 40)))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    told = observer.told()["classes"]
    assert len(told) == MOST_CLASSES + 1 and REST in told
    assert grown < 200_000


def test_looks_keep_to_their_share_of_the_time() -> None:
    model = made("attention")
    observer, began = Observer(model, share=0.02), time.process_time()
    while time.process_time() - began < 2.0:
        observer.heard(TRACE, IDS)
        observer.work()
        sum(range(20_000))  # what the server is there for
    assert observer.n_looked > 0
    assert observer.spent_s <= 0.02 * (time.process_time() - began) * 1.5
    assert observer.n_looked < observer.n_heard


def test_hearing_takes_little() -> None:
    observer = Observer(None)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(100):
            observer.heard(TRACE, IDS)
        times.append((time.perf_counter() - began) / 100)
    assert min(times) < 50e-6


def test_a_model_that_cannot_be_looked_into_is_left_alone() -> None:
    model = made("attention")
    observer = Observer(model, share=1.0)
    observer.heard(TRACE, [10_000] * 20)  # ids that it has not
    assert not observer.work()
    assert observer.model is None
    assert observer.told()["observer"]["n_heard"] == 1


def test_looks_wait_until_it_is_idle() -> None:
    idle: list[bool] = []
    observer = Observer(made("attention"), share=1.0, is_idle=lambda: bool(idle))
    observer.heard(TRACE, IDS)
    observer.begin()
    time.sleep(0.2)
    assert observer.n_looked == 0
    idle.append(True)
    end = time.monotonic() + 20
    while not observer.n_looked and time.monotonic() < end:
        time.sleep(0.01)
    observer.close()
    assert observer.n_looked == 1


def seen_one() -> Observer:
    tuned = {
        "on": True, "why": "pays", "controller_us": 20.0, "controller_share": 0.001,
        "saved": {"low": 0.1, "mean": 0.2, "high": 0.3, "n": 100},
        "classes": {"all": {"plan": "lookup-4"}},
    }  # fmt: skip
    observer = Observer(made("hybrid"), share=1.0, more={"tune": lambda: tuned})
    observer.heard(TRACE, IDS)
    assert observer.work()
    return observer


def test_prometheus_gets_the_same_numbers() -> None:
    observer, registry = seen_one(), CollectorRegistry()
    registry.register(observer.collector())
    text = generate_latest(registry).decode()
    layers = observer.told()["layers"]["all"]
    assert f'mendel_layer_influence{{layer="1",query_class="all"}} {layers["influence"][0]}' in text
    assert 'mendel_class_acceptance{query_class="all"} 0.5' in text
    assert 'mendel_tune_plan{plan="lookup-4",query_class="all"} 1.0' in text
    assert 'mendel_tune_saved{bound="low"} 0.1' in text
    assert 'mendel_head_entropy{head="0",layer="2",query_class="all"}' in text
    assert "mendel_machine_rss_bytes" in text


def test_a_terminal_gets_a_table() -> None:
    console = Console(width=140)
    with console.capture() as said:
        console.print(table(seen_one().told()))
    assert "lookup-4" in said.get() and "50%" in said.get() and "pays" in said.get()


def test_layers_average_over_texts_and_leave_out_what_is_not_there() -> None:
    layers, model = Layers(), made("hybrid")
    looks = [look(model, IDS), look(model, IDS[::-1])]
    for each in looks:
        layers.add(each)
    told = layers.to_dict()
    wanted = np.mean([each.influence for each in looks], 0)
    assert told["influence"] == pytest.approx(wanted.tolist(), abs=1e-4)
    assert set(told["head_use"]) == {1}  # the first layer has no softmax


def test_the_machine_tells_of_this_process() -> None:
    machine = Machine()
    held = np.ones(4_000_000)  # 32 MB
    began = time.process_time()
    while time.process_time() - began < 0.2:
        held.sum()
    facts = machine.facts()
    assert facts["cpu_s"] >= 0.2
    assert facts["rss_bytes"] > held.nbytes
    assert abs(facts["rss_bytes"] - rss()) < 50e6
    assert 0 <= facts["steal_share"] <= 1
    assert facts["energy_j"] > 0 or facts["energy_is"] == "measured"
