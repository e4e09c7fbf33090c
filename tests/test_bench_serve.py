"""`mendel bench-serve`: the traffic is repeatable, every answer is timed, no failure is hidden."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mendel.cli import app
from mendel.serve import replay, workloads
from mendel.serve.workloads import WORKLOADS, Conversation, Maker, parse_mix
from mendel.types import InputError

README = Path(__file__).parents[1] / "README.md"


class Upper(BaseHTTPRequestHandler):
    """A completions server whose answer is the end of the prompt in capitals, a token a letter.

    What goes wrong is asked for by the prompt: FULL the first time, CUT, BAD, or OTHER if pinned.
    """

    protocol_version = "HTTP/1.1"
    seen: set[str]

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": "upper"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt: str = body["prompt"]
        if "BAD" in prompt:
            self._send(400, {"error": {"message": "no"}})
        elif "FULL" in prompt and prompt not in self.seen:
            self.seen.add(prompt)
            self._send(429, {"error": {"message": "full"}}, {"Retry-After": "0"})
        else:
            text = prompt[-body["max_tokens"] :].upper()
            self._stream("other" if "OTHER" in prompt and "plan" in body else text, prompt)

    def _stream(self, text: str, prompt: str) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for letter in text:
            self._event({"choices": [{"text": letter}]})
        if "CUT" not in prompt:
            self._event({"choices": [], "usage": {"completion_tokens": len(text)}})
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _event(self, told: Any) -> None:
        self.wfile.write(b"data: " + json.dumps(told).encode() + b"\n\n")

    def _send(self, status: int, told: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


@contextmanager
def upper() -> Iterator[replay.Server]:
    handler = type("Handler", (Upper,), {"seen": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield replay.Server(f"http://127.0.0.1:{http.server_address[1]}").named()
        http.shutdown()


def said(opening: str, *then: str, n: int = 4) -> Conversation:
    return Conversation("test", opening, then, n_tokens=n)


def test_the_same_text_and_seed_make_the_same_traffic_and_another_seed_does_not() -> None:
    text = README.read_text(encoding="utf-8")
    mix = dict.fromkeys(WORKLOADS, 1.0)
    one, same, other = (list(Maker(text, seed=s).mix(mix, 60)) for s in (1, 1, 2))
    assert one == same != other
    assert {each.workload for each in one} == set(WORKLOADS)
    assert sum(each.n_requests for each in one) >= 60


def test_chats_share_a_long_prefix_and_each_turn_of_an_agent_goes_on_from_the_one_before() -> None:
    maker = Maker(n_chars=1200)
    chats = [maker.make("chat", i) for i in range(20)]
    begins = {each.opening.split("User:")[0] for each in chats}
    assert 1 < len(begins) <= workloads.N_INSTRUCTIONS and min(map(len, begins)) > 300
    assert len({each.opening for each in chats}) == 20
    agents = [maker.make("agent", i) for i in range(20)]
    assert all(each.n_requests == 5 for each in agents)
    assert all(each.opening.startswith(workloads.TOOLS) for each in agents)


def test_the_answer_of_an_edit_lies_in_its_prompt_but_for_the_name() -> None:
    maker, n_other = Maker(), 0
    for i in range(20):
        edit = maker.make("edit", i)
        passage = edit.opening.partition("Text: ")[2].partition("\nThe same, with ")[0]
        new, _, old = edit.opening.rpartition("with ")[2].rstrip(":").partition(" for ")
        assert edit.answers[0].strip() == passage.replace(old, new)
        n_other += passage != passage.replace(old, new)
    assert n_other > 5


@pytest.mark.parametrize("n_chars", [200, 1000, 4000])
def test_no_opening_is_much_longer_than_asked(n_chars: int) -> None:
    maker = Maker(README.read_text(encoding="utf-8"), n_chars=n_chars)
    for workload in WORKLOADS:
        longest = max(len(maker.make(workload, i).opening) for i in range(30))
        assert longest <= n_chars + len(workloads.TOOLS) + 120
        assert workload != "long" or longest > n_chars // 2


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Conversation,
        workload=st.text(max_size=9),
        opening=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        then=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)).map(tuple),
        stop=st.lists(st.text("ab\n", min_size=1)).map(tuple),
        n_tokens=st.integers(1, 999),
        temperature=st.floats(0, 2),
        top_p=st.floats(0.1, 1),
        seed=st.integers(0, 2**40),
        at_s=st.none() | st.floats(0, 99),
    )
)
def test_a_trace_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, each: Conversation
) -> None:
    each = replace(each, workload=each.workload.encode("utf-8", "ignore").decode())
    file = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    workloads.write_trace(file, [each, each])
    assert workloads.read_trace(file) == [each, each]


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", "{}", '{"opening": ""}', '{"opening": "a", "tokens": 3}',
             '{"opening": "a", "n_tokens": 0}', '{"opening": "a", "then": "b"}',
             '{"opening": "a", "seed": true}'],
)  # fmt: skip
def test_a_bad_line_of_a_trace_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text('{"opening": "good"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"trace\.jsonl, line 2"):
        workloads.read_trace(file)


@pytest.mark.parametrize("mix", ["chats=1", "chat=0", "chat=-1", "chat=x", "", "chat=inf"])
def test_a_mix_that_cannot_be_is_refused(mix: str) -> None:
    with pytest.raises(InputError):
        parse_mix(mix)


def test_turns_go_on_from_the_answers_and_come_in_order_whoever_else_is_served() -> None:
    asked = [said(f"first {i} ab", f" and {i} cd", " ef") for i in range(20)]
    with upper() as server:
        answers = replay.replay(asked, server, n_at_once=8)
    assert [(a.conversation, a.turn) for a in answers] == [(i, t) for i in range(20)
                                                           for t in range(3)]  # fmt: skip
    for i, (one, two, three) in enumerate(zip(*[iter(answers)] * 3, strict=True)):
        assert one.text == f"first {i} ab"[-4:].upper()
        assert two.prompt == f"first {i} ab{one.text} and {i} cd"
        assert three.prompt == two.prompt + two.text + " ef" and three.text == f"{two.text[-1]} EF"
        assert one.n_tokens == 4 and 0 < one.first_s <= one.total_s


def test_refusals_are_counted_and_tried_again_and_failures_are_told_with_their_reason() -> None:
    asked = [said("FULL one"), said("BAD two", " never"), said("CUT three"), said("good four")]
    with upper() as server:
        answers = replay.replay(asked, server, n_at_once=2)
    full, bad, cut, good = answers  # the second turn of the bad one is not asked
    assert full.n_refused == 1 and full.error is None and full.text == " ONE"
    assert bad.error is not None and bad.error.startswith("400")
    assert cut.error is not None and "[DONE]" in cut.error
    assert good.text == "FOUR"
    row = replay.row(answers, wall_s=2.0)
    assert (row["requests"], row["errors"], row["refused"]) == (4, 2, 1)
    assert row["tokens"] == 8 and row["tokens_per_s"] == 4.0


def test_a_text_that_differs_under_the_plain_plan_is_found() -> None:
    with upper() as server:
        answers = replay.replay([said("same"), said("OTHER")], server)
        checked = replay.check(answers, server, "plain")
    assert [answer.equal for answer in checked] == [True, False]
    assert replay.row(checked, 1.0)["equal"] == 1


def test_the_command_prints_a_line_a_workload_and_keeps_trace_and_numbers(tmp_path: Path) -> None:
    trace, out = tmp_path / "trace.jsonl", tmp_path / "out.json"
    with upper() as server:
        command = ["bench-serve", server.url, "--requests", "12", "--concurrency", "3", "--check"]
        told = CliRunner().invoke(app, [*command, "--save-trace", str(trace), "--out", str(out)])
        assert told.exit_code == 0, told.output
        rows = json.loads(out.read_text())["rows"]
        assert rows["all"]["requests"] == rows["all"]["equal"] >= 12
        assert all(name in told.output for name in rows)
        again = ["bench-serve", server.url, "--trace", str(trace), "--out", str(out)]
        assert CliRunner().invoke(app, again).exit_code == 0
        second = json.loads(out.read_text())["rows"]
    assert {n: r["requests"] for n, r in second.items()} == {
        n: r["requests"] for n, r in rows.items()
    }


def test_the_command_ends_with_1_where_an_answer_failed_and_says_which(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    workloads.write_trace(trace, [said("BAD"), said("good")])
    with upper() as server:
        told = CliRunner().invoke(app, ["bench-serve", server.url, "--trace", str(trace)])
    assert told.exit_code == 1 and "400" in told.output


def test_no_server_and_no_model_are_errors_of_the_user() -> None:
    for server, words in (("http://127.0.0.1:9", "does not answer"), ("nowhere", "neither a URL")):
        told = CliRunner().invoke(app, ["bench-serve", server, "--requests", "1"])
        assert isinstance(told.exception, InputError) and words in str(told.exception)


@pytest.mark.slow  # kernels are compiled where no earlier run left them
def test_a_server_that_is_started_for_a_model_gives_the_texts_of_its_plain_plan(
    tmp_path: Path,
) -> None:
    model, out = tmp_path / "model", tmp_path / "out.json"
    small = ["width=32", "n_layers=2", "context=256", "batch=4"]
    sets = [word for each in small for word in ("--set", each)]
    train = ["train", "modern", "--data", str(README), "--budget", "20steps", *sets]
    assert CliRunner().invoke(app, [*train, "--out", str(model)]).exit_code == 0
    mix = [
        "--mix",
        "edit,free,agent",
        "--requests",
        "12",
        "--length",
        "200",
        "--temperature",
        "0.7",
    ]
    command = ["bench-serve", str(model), *mix, "--check", "--out", str(out)]
    told = CliRunner().invoke(app, [*command, "--serve", "--plan plain"])
    assert told.exit_code == 0, told.output
    row = json.loads(out.read_text())["rows"]["all"]
    assert row["equal"] == row["requests"] >= 12 and row["tokens"] > 100
