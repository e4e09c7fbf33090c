"""mendel bench-serve: traffic against a server, and what its clients saw."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mendel.types import InputError

if TYPE_CHECKING:
    from mendel.serve.replay import Answer, Server
    from mendel.serve.workloads import Conversation

MIX = "chat=1,edit=1,free=1,agent=1,long=1"
START_S = 900.0  # for a server to be ready: the first start compiles, proves and profiles
STOP_S = 20.0
COLUMNS = {
    "requests": "requests", "ttft_p50_ms": "first p50 ms", "ttft_p95_ms": "first p95 ms",
    "ms_per_token_p50": "ms/token p50", "ms_per_token_p95": "ms/token p95",
    "tokens_per_s": "tokens/s", "errors": "errors", "refused": "429s", "equal": "equal",
}  # fmt: skip


def add_to(app: typer.Typer) -> None:
    app.command("bench-serve")(bench_serve)


def bench_serve(
    server: Annotated[str, typer.Argument(metavar="URL|DIR", help="A server that runs, or a model "
                                          "to start one for.")],
    trace: Annotated[Path | None, typer.Option(help="JSON lines: opening, then, n_tokens, "
                                               "temperature, top_p, seed, at_s.")] = None,
    mix: Annotated[str, typer.Option(help="Workloads and their weights.")] = MIX,
    requests: Annotated[int, typer.Option(min=1, help="Of a mix, at least.")] = 100,
    concurrency: Annotated[int, typer.Option(min=1, help="Clients at a time.")] = 4,
    text: Annotated[Path | None, typer.Option(help="What prompts are made from; default: simple "
                                              "stories.")] = None,
    length: Annotated[int, typer.Option(min=200, help="Characters of the longest prompt.")] = 1200,
    temperature: Annotated[float, typer.Option(min=0, help="Of a mix's answers.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the mix.")] = 0,
    check: Annotated[bool, typer.Option("--check", help="Ask each again under --check-plan: are "
                                        "the texts equal?")] = False,
    check_plan: Annotated[str, typer.Option(help="The plan to check against.")] = "plain",
    key_file: Annotated[Path | None, typer.Option(help="As --api-key-file of the server; "
                                             "the first is sent.")] = None,
    serve: Annotated[str, typer.Option(help='Options of a server to start: "--dtype bf16".')] = "",
    save_trace: Annotated[Path | None, typer.Option(help="Write the mix as a trace.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the JSON goes.")] = None,
) -> None:  # fmt: skip
    """Replay a trace or a mix of workloads against a server, and print what its clients saw."""
    from mendel.serve import replay, workloads
    from mendel.serve.http.keys import first_key

    if trace is not None:
        conversations = workloads.read_trace(trace)
    else:
        words = text.read_text(encoding="utf-8") if text is not None else None
        maker = workloads.Maker(words, n_chars=length, seed=seed)
        made = maker.mix(workloads.parse_mix(mix), requests)
        conversations = [_drawn(each, temperature, seed + i) for i, each in enumerate(made)]
    if save_trace is not None:
        workloads.write_trace(save_trace, conversations)
    key = first_key(key_file) if key_file is not None else None
    with _running(server, shlex.split(serve), key) as running:
        ticker = _Ticker(sum(each.n_requests for each in conversations))
        began = time.perf_counter()
        answers = replay.replay(conversations, running, n_at_once=concurrency, tell=ticker)
        wall_s = time.perf_counter() - began
        if check:
            answers = replay.check(answers, running, check_plan)
    found = replay.rows(answers, wall_s)
    _print(found, answers)
    if out is not None:
        facts = {"command": shlex.join(["mendel", *sys.argv[1:]]), "wall_s": wall_s, "rows": found}
        out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    bad = [a for a in answers if a.error is not None or a.equal is False]
    if bad:
        raise typer.Exit(1)


def _drawn(each: Conversation, temperature: float, seed: int) -> Conversation:
    from dataclasses import replace

    return replace(each, temperature=temperature, seed=seed)


@contextmanager
def _running(server: str, options: list[str], key: str | None) -> Iterator[Server]:
    """The server that was named, or one of our own for as long as it is needed."""
    from mendel.serve.replay import Server

    if "://" in server:
        yield Server(server, key).named()
        return
    if not Path(server).exists():
        raise InputError(f"{server!r} is neither a URL nor a model. Wanted http://... or DIR.")
    with started(Path(server), options, key) as (ours, _):
        yield ours


@contextmanager
def started(
    model: Path, options: list[str], key: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """`mendel serve` of a model on a free port, ready; it ends with the block."""
    from mendel.serve.replay import Server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mendel", "serve", str(model), "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    try:
        ours = Server(f"http://127.0.0.1:{port}", key)
        _wait(ours, process)
        yield ours.named(), process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise InputError(
                f"the server ended with code {process.returncode} before it was ready."
            )
        try:
            if server.get("/readyz")[0] == 200:
                return
        except InputError:
            pass  # not listening yet
        time.sleep(0.1)
    raise InputError(f"the server was not ready after {START_S:.0f} s. Try `mendel serve` alone.")


class _Ticker:
    """Where it stands, on one line of a terminal; silence elsewhere."""

    def __init__(self, n: int) -> None:
        self._n, self._done, self._is_seen = n, 0, sys.stderr.isatty()

    def __call__(self, answer: Answer) -> None:
        self._done += 1
        if self._is_seen:
            end = "\n" if self._done >= self._n else "\r"
            print(f"{self._done} of {self._n} answers", end=end, file=sys.stderr, flush=True)


def _print(found: Mapping[str, Mapping[str, Any]], answers: list[Answer]) -> None:
    table = Table("workload", box=None)
    for title in COLUMNS.values():
        table.add_column(title, justify="right")
    for name, row in found.items():
        table.add_row(name, *(_shown(row, key) for key in COLUMNS))
    Console(width=140).print(table)
    problems = [a for a in answers if a.error is not None]
    for answer in problems[:3]:
        print(f"{answer.asked.workload} {answer.conversation}: {answer.error}", file=sys.stderr)


def _shown(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if value is None:
        return "-"
    if key == "equal":
        return f"{value}/{row['checked']}"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
