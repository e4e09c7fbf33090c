"""An agent that `mendel design` wrote, served: its answers, and what else it refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mendel.cli import main
from mendel.emit.project import Agent, emit_project
from mendel.emit.runtime import load_model
from mendel.serve.http.served import Served

from . import serve_toy as toy
from .test_kinds import KINDS, TASK, measure_fold, rows_of, small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = rows_of("classify")
    measured = measure_fold(KINDS["classify"], small("classify"), rows, 0, seed=0)
    fitted = KINDS["classify"].fitted(measured.forms["int8"].kept, rows.only(rows.folds == 0), TASK)
    folder = tmp_path_factory.mktemp("agent")
    emit_project(
        Agent(
            kind="classify",
            trained=measured.trained,
            int8=True,
            labels=rows.names,
            settings=fitted.settings,
            task={"description": "a task"},
            examples=tuple(rows.texts[:30]),
            provenance="written",
            card={},
        ),
        folder,
    )
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    what = Served("desk", 1, folder / "feedback.jsonl", agent=load_model(folder))
    with toy.running(what) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def test_an_agent_answers_as_it_does_alone(client: httpx.Client, folder: Path) -> None:
    texts = ["where is my parcel", "", "😀"]
    answer = client.post("/v1/predict", json={"texts": texts, "top": 2, "model": "desk"})
    assert answer.status_code == 200, answer.text
    wanted = [a.to_dict() for a in load_model(folder).predict(texts, top=2)]
    assert answer.json() == {"model": "desk", "predictions": wanted}
    why = client.post("/v1/predict", json={"texts": texts[:1], "why": True}).json()
    assert why["predictions"][0]["why"] == load_model(folder).explain(texts[0])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "texts is missing"),
        ({"texts": []}, "texts"),
        ({"texts": "one"}, "texts"),
        ({"texts": ["a"] * 1_001}, "texts"),
        ({"texts": ["a"], "top": 0}, "top"),
        ({"texts": ["a"], "topp": 3}, "'topp'"),
        ({"texts": ["a"] * 21, "why": True}, "21 texts"),
    ],
)
def test_what_an_agent_cannot_do_is_named(
    client: httpx.Client, wrong: dict[str, object], said: str
) -> None:
    answer = client.post("/v1/predict", json=wrong)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


def test_an_agent_writes_no_texts(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json={"prompt": "a"})
    assert answer.status_code == 404 and "/v1/predict" in answer.json()["error"]["message"]
    assert client.get("/v1/models").json()["data"][0]["kind"] == "agent"
    assert client.get("/readyz").status_code == 200
    fed = client.post("/v1/feedback", json={"text": "where", "label": "parcel"})
    assert fed.status_code == 200


@pytest.mark.parametrize(
    "flags", [("--dtype", "bf16"), ("--plan", "plain"), ("--mode", "deterministic")]
)
def test_flags_of_language_models_are_refused(
    folder: Path,
    flags: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["mendel", "serve", str(folder), "--port", "0", *flags])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert f"{flags[0]} is for language models" in capsys.readouterr().err
