"""mendel: describe a task, and get a small tested model for it that runs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Design", "MendelError", "design"]

if TYPE_CHECKING:
    from mendel.api import Design, design
    from mendel.types import MendelError


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used: `import mendel` costs nothing."""
    if name == "MendelError":
        from mendel.types import MendelError

        return MendelError
    if name in ("Design", "design"):
        from mendel import api

        return getattr(api, name)
    raise AttributeError(f"module 'mendel' has no attribute {name!r}")
