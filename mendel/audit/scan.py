"""A look at a file's text before it runs: imports and calls that a part has no business with.

Advice, not a wall: names can be made at run time. The wall is the sandbox.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from mendel.types import InputError

USUAL = {
    "__future__", "abc", "collections", "copy", "dataclasses", "einops", "enum", "fla",
    "functools", "itertools", "math", "mendel", "numpy", "operator", "pydantic", "random",
    "statistics", "torch", "transformers", "typing", "typing_extensions", "warnings",
}  # fmt: skip
# module or builtin -> what it is for; a dotted name stands before its parent
TELLING = {
    "builtins.eval": "runs text as code",
    "builtins.exec": "runs text as code",
    "builtins.compile": "runs text as code",
    "builtins.__import__": "imports by a name made at run time",
    "builtins.open": "reads or writes files",
    "builtins.input": "asks a person",
    "torch.load": "may unpickle",
    "torch.save": "writes files",
    "torch.hub": "fetches code from the network",
    "torch.utils.cpp_extension": "compiles and loads native code",
    "torch.ops.load_library": "loads native code",
    "torch.manual_seed": "reseeds everybody's random numbers",
    "numpy.load": "may unpickle",
    "asyncio": "may open connections",
    "ctypes": "calls native code",
    "http": "opens connections",
    "importlib": "imports by a name made at run time",
    "inspect": "looks at its caller",
    "marshal": "loads code",
    "multiprocessing": "starts processes",
    "os": "reaches files, processes and the environment",
    "pathlib": "reads or writes files",
    "pickle": "runs code when it loads",
    "requests": "opens connections",
    "shutil": "reads or writes files",
    "signal": "sends signals",
    "socket": "opens connections",
    "subprocess": "starts programs",
    "sys": "reaches the interpreter",
    "tempfile": "writes files",
    "threading": "starts threads",
    "time": "knows when it runs",
    "urllib": "opens connections",
}
TRICKS = {"__globals__", "__builtins__", "__subclasses__", "__code__", "f_back", "gi_frame"}


@dataclass(frozen=True)
class Sight:
    """One thing that a reader should look at."""

    line: int
    name: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.name} {self.why}"


def scan(source: str, file: str = "the file") -> list[Sight]:
    """What stands out, by line; raises InputError for what is no Python."""
    try:
        tree = ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise InputError(f"{file}{where} is no Python: {error}.") from None
    look = _Look()
    try:
        look.visit(tree)
    except RecursionError:
        look.sights.append(Sight(1, "the text", "is nested too deeply to be looked at"))
    return sorted(set(look.sights), key=lambda sight: (sight.line, sight.name))


class _Look(ast.NodeVisitor):
    def __init__(self) -> None:
        self.sights: list[Sight] = []
        self.names: dict[str, str] = {}  # local name -> dotted one

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            local = alias.asname or alias.name.split(".")[0]
            self.names[local] = alias.name if alias.asname else local
            self._imported(node.lineno, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        if node.level:
            self.sights.append(Sight(node.lineno, f"from {module}", "is not part of this file"))
            return
        self._imported(node.lineno, module)
        for alias in node.names:
            self.names[alias.asname or alias.name] = f"{module}.{alias.name}"
            self._tell(node.lineno, f"{module}.{alias.name}")

    def visit_Name(self, node: ast.Name) -> None:
        known = self.names.get(node.id, f"builtins.{node.id}")
        if isinstance(node.ctx, ast.Load) and known.startswith("builtins."):
            self._tell(node.lineno, known)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in TRICKS:
            self.sights.append(Sight(node.lineno, f".{node.attr}", "reaches around its own names"))
        dotted = self._dotted(node)
        if dotted is not None and "." in dotted:
            self._tell(node.lineno, dotted)
        self.generic_visit(node)

    def _imported(self, line: int, module: str) -> None:
        root = module.split(".")[0]
        if not self._tell(line, module) and root not in USUAL:
            self.sights.append(Sight(line, module, "is not among the modules that parts use"))

    def _tell(self, line: int, name: str) -> bool:
        parts = name.split(".")
        for n in range(len(parts), 0, -1):
            known = ".".join(parts[:n])
            if known in TELLING:
                shown = known.removeprefix("builtins.")
                self.sights.append(Sight(line, shown, TELLING[known]))
                return True
        return False

    def _dotted(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None
