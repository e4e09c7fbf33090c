"""Executable checks of any torch module that maps a sequence to a sequence.

spec or module -> calls -> answers -> findings. What is asked runs where the module lives (here, or
in the sandbox); what is decided is decided here.
"""

from __future__ import annotations

from mendel.audit.claims import Claims
from mendel.audit.examine import check
from mendel.audit.gate import check_spec, report_file, require_sound
from mendel.audit.inputs import InputSpec
from mendel.audit.report import CHECKS, AuditReport, Finding
from mendel.audit.subject import AuditError

__all__ = [
    "CHECKS",
    "AuditError",
    "AuditReport",
    "Claims",
    "Finding",
    "InputSpec",
    "check",
    "check_spec",
    "report_file",
    "require_sound",
]
