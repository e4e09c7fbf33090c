"""A stranger's file, from its text to a report: a look at it, a sandbox around it, the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mendel import sandbox
from mendel.audit.accept import source_digest
from mendel.audit.auditor import Profile
from mendel.audit.claims import Claims
from mendel.audit.examine import examine
from mendel.audit.inputs import InputSpec
from mendel.audit.remote import Remote, Source
from mendel.audit.report import AuditReport
from mendel.audit.scan import scan
from mendel.types import InputError

WIDTHS = (
    "width", "hidden_size", "d_model", "embed_dim", "input_size", "dim", "n_embd", "channels",
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """How a file is to be audited."""

    source: Source
    input: str | None = None  # None: floats of the width among the arguments
    output: int | str | None = None
    claims: Claims = field(default_factory=Claims)
    profile: Profile = "quick"
    readable: Sequence[Path] = ()
    unsafe: bool = False

    def spec(self) -> InputSpec:
        if self.input is not None:
            return InputSpec.parse(self.input)
        for name in WIDTHS:
            width = self.source.kwargs.get(name)
            if isinstance(width, int) and not isinstance(width, bool) and width > 0:
                return InputSpec.parse(f"float:B,T,{width}")
        raise InputError(
            f"what {self.source.name} takes is not said, and no argument is called "
            f'{", ".join(WIDTHS[:4])} ... Give --input "float:B,T,64" or "tokens:B,T,1000".'
        )


def audit_file(order: Order) -> AuditReport:
    """Audit a class of a file that nobody trusts; nothing of it runs outside the sandbox.

    raises   InputError for an order that is none, SandboxError where no sandbox works here,
             AuditError where the module cannot be built or run
    """
    spec, text = order.spec(), order.source.text()
    sights = scan(text, order.source.file.name)
    with (
        sandbox.Pool(
            preload=("torch", "mendel.audit.served"), readable=order.readable, unsafe=order.unsafe
        ) as pool,
        Remote(pool, order.source, spec, order.output, order.claims) as subject,
    ):
        report = examine(subject, spec, order.claims, order.profile)
        kept = pool.backend
    return replace(
        report,
        sandbox=kept,
        scan=tuple(map(str, sights)),
        facts={**report.facts, "digest": source_digest(text)},
    )
