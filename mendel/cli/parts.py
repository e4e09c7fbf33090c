"""mendel parts: the menu of parts, with what each costs."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from rich.console import Console
from rich.table import Table

from mendel.cli.amounts import BYTES
from mendel.types import did_you_mean


def add_to(app: typer.Typer) -> None:
    app.command()(parts)


def parts(
    name: Annotated[str | None, typer.Argument(help="One part: its fields and what it is.")] = None,
    width: Annotated[int, typer.Option(min=4, help="Width at which the cost is measured.")] = 128,
    tokens: Annotated[int, typer.Option(min=1, help="Length of the text.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the parts that models are made of, with their cost, and the verified recipes."""
    if name is not None:
        return _one(name)
    from dataclasses import asdict

    from mendel.parts.price import prices

    rows = prices(width, tokens)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return None
    table = Table(title=f"width {width}, a text of {tokens} tokens, float32", title_justify="left")
    table.add_column("part", no_wrap=True)
    for heading in ("parameters", "kFLOP a token", "the next one", "state"):
        table.add_column(heading, justify="right")
    last = ""
    for row in rows:
        if row.kind != last:
            table.add_section()
            table.add_row(f"[bold]{row.kind}[/bold]")
            last = row.kind
        table.add_row(
            row.name,
            f"{row.n_params:,}",
            f"{row.flops_per_token / 1e3:,.0f}",
            f"{row.flops_per_step / 1e3:,.0f}",
            _size(row.state_bytes) + ("+" if row.grows else ""),
        )
    console = Console()
    console.print(table)
    console.print(
        "FLOPs of matrix work, forward: a token of the text, and one more after it. State of one "
        "text; + still grows.\n`mendel parts NAME` says what a part is and lists its fields.",
        highlight=False,
    )
    for name, evidence in _verified().items():
        console.print(f"recipe {name}: {evidence['reason']}", markup=False, highlight=False)
    return None


def _verified() -> dict[str, dict[str, Any]]:
    """What `mendel research verify` found to be better than the menu, and the evidence."""
    from mendel.presets import discoveries

    files = {name: folder / "evidence.json" for name, folder in discoveries().items()}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}


def _size(n_bytes: int) -> str:
    return f"{n_bytes / BYTES['kib']:,.1f} KiB" if n_bytes else "none"


def _one(name: str) -> None:
    import inspect

    import mendel.parts.menu  # noqa: F401  registers the parts
    from mendel.parts.part import KINDS, NAMED, PARTS, resolve
    from mendel.presets import discoveries
    from mendel.spec import PartSpec, SpecError

    kinds = [kind for kind in KINDS if name in PARTS[kind] or name in NAMED[kind]]
    if not kinds and name in discoveries():
        print((discoveries()[name] / "README.md").read_text(encoding="utf-8"), end="")
        return
    if not kinds:
        names = [known for kind in KINDS for known in (*PARTS[kind], *NAMED[kind])]
        names += discoveries()
        hint = did_you_mean(name, names) or f"There are {', '.join(names)}."
        raise SpecError(f"no part is called {name!r}. {hint}")
    for kind in kinds:
        cls, fields = resolve(kind, PartSpec(part=name))
        tied = ", ".join(f"{key}={value!r}" for key, value in fields.items())
        print(f"{name}: {kind}" + (f" = {cls.name}({tied})" if cls.name != name else ""))
        print(f"\n{inspect.getdoc(cls)}\n")
        for field, info in cls.Fields.model_fields.items():
            value = f"{field} = {fields.get(field, info.default)!r}"
            print(f"  {value:<28} {_kinds(info.annotation)}")


def _kinds(annotation: Any) -> str:
    """What a field may be, as a person would write it."""
    if get_origin(annotation) is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")
