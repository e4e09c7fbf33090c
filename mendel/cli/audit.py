"""mendel audit: executable checks of a module in a file, or of a model's spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mendel.audit import AuditReport, Claims


def add_to(app: typer.Typer) -> None:
    app.command()(audit)


def audit(
    what: Annotated[str, typer.Argument(metavar="FILE.py:CLASS", help="A module's class in a file, "
                                        "or a preset or TOML file as `mendel train` takes.")],
    kwargs: Annotated[str, typer.Option(help='What the class is built with, as JSON: '
                                             '\'{"hidden_size": 64}\'.')] = "{}",
    input: Annotated[str | None, typer.Option(help="float:B,T,64 or tokens:B,T,1000, in the "
                                                   "module's own order.")] = None,
    output: Annotated[str | None, typer.Option(help="Which element of the output is the sequence: "
                                                    "a number or a name.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every length and more inputs: ten times as "
                                                      "long.")] = False,
    linear: Annotated[bool, typer.Option("--linear", help="It claims to be linear in "
                                                          "time.")] = False,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Every output may read "
                                                "every input.")] = False,
    max_length: Annotated[int | None, typer.Option(min=2, help="It takes no longer "
                                                               "sequences.")] = None,
    state: Annotated[str | None, typer.Option(help="The argument that takes the carried "
                                                   "state.")] = None,
    state_output: Annotated[str, typer.Option(help="The element of the output that is the "
                                                   "state.")] = "1",
    state_bytes: Annotated[int | None, typer.Option(min=0, help="Stated size of a row's state in "
                                                         "float32.")] = None,
    readable: Annotated[list[Path] | None, typer.Option(help="A file or folder that it may read, "
                        "beside itself; folders are importable.")] = None,
    fail_on: Annotated[str, typer.Option(help="error or warning: what exit code 1 is for.",
                                         )] = "error",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    unsafe: Annotated[bool, typer.Option("--unsafe", help="Run it without a sandbox. It can do "
                                         "all that you can.")] = False,
) -> None:  # fmt: skip
    """Check a module: causality, length, batch, state, gradients, numerics, cost and more.

    A file runs in the sandbox. Exit 0: clean, 1: findings, 2: it cannot run.
    """
    from mendel.audit import AuditError, Claims
    from mendel.audit.files import Order, audit_file
    from mendel.audit.remote import Source
    from mendel.sandbox import SandboxError
    from mendel.types import InputError

    level = _level(fail_on)
    claims = Claims(
        bidirectional=bidirectional,
        linear=linear,
        max_length=max_length,
        state=state,
        state_output=_element(state_output),
        state_bytes=state_bytes,
    )
    chosen = None if output is None else _element(output)
    console = Console(stderr=True)
    with console.status("auditing"):
        try:
            if _names_a_spec(what):
                if kwargs != "{}" or input or output or readable or unsafe:
                    raise InputError(
                        "--kwargs, --input, --output, --readable and --unsafe belong to a file's "
                        f"class; {what} is a spec. Leave them out."
                    )
                report = _of_spec(what, claims, full)
            else:
                order = Order(
                    Source.parse(what, _arguments(kwargs)), input, chosen, claims,
                    "full" if full else "quick", readable or [], unsafe,
                )  # fmt: skip
                report = audit_file(order)
        except (AuditError, SandboxError) as error:
            raise InputError(f"cannot audit {what}: {error}") from None
    print(json.dumps(report.to_dict(), indent=2)) if as_json else _tell(report)
    if report.failed(level):
        raise typer.Exit(1)
    if report.undecided:
        raise typer.Exit(2)


def _level(text: str) -> Literal["error", "warning"]:
    from mendel.types import InputError

    if text == "error":
        return "error"
    if text == "warning":
        return "warning"
    raise InputError(f"--fail-on {text!r} is no level. Wanted error or warning.")


def _element(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _arguments(text: str) -> dict[str, Any]:
    from mendel.types import InputError

    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"--kwargs is no JSON: {error}. Wanted '{{\"width\": 64}}'.") from None
    if not isinstance(found, dict):
        raise InputError(f"--kwargs is {type(found).__name__}. Wanted '{{\"width\": 64}}'.")
    return found


def _names_a_spec(what: str) -> bool:
    from mendel.presets import PRESETS

    return what in PRESETS or what.endswith(".toml")


def _of_spec(what: str, claims: Claims, full: bool) -> AuditReport:
    from mendel.audit import check_spec
    from mendel.presets import load_recipe

    model, _ = load_recipe(what)
    return check_spec(model, claims, profile="full" if full else "quick")


def _tell(report: AuditReport) -> None:
    """Findings first; then what was looked at, and what is worth knowing."""
    from mendel.audit import CHECKS

    for finding in report.findings:
        print(f"{finding.level.upper()} {finding.check}: {finding.what}")
        print(f"  sure       {finding.sure}")
        print(f"  cause      {finding.cause}")
        print(f"  reproduce  {finding.reproduce}\n")
    for name, why in CHECKS.items():
        print(f"{report.ran[name]:<9}{name:<11}{why}")
    print()
    for note in report.notes:
        print(f"note: {note}")
    for sight in report.scan:
        print(f"in the text, {sight}")
    powers = report.facts.get("powers", {})
    told = ", ".join(f"{name} T^{power:.2f}" for name, power in powers.items())
    n = len(report.errors)
    print(
        f"{report.subject}: {n} error(s), {len(report.findings) - n} warning(s); "
        f"{report.facts['n_params']:,} parameters; {told or 'growth not measured'}; "
        f"{report.profile}, {report.seconds:.1f} s, decided in {report.facts['decided_in']}, "
        f"sandbox: {report.sandbox}"
    )
