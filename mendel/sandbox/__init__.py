"""Runs code that nobody trusts: no network, no files but those named, and limits on all it uses.

    outcome = sandbox.run("def main(inputs): return {'sum': sum(inputs['x'])}", {"x": [1, 2]})

One file each: limits (the nouns), pool (the entrance), backends (which walls there are), wardens
and flight (the host's side of a fork server and of one trial), cage and bubblewrap (the outer
walls), warden, supervisor, start, confine and trial (inside, in this order), landlock, seccomp,
calls and linux (the kernel's interfaces), tree (processes), frames (the wire).
"""

from mendel.sandbox.backends import Backend, backend
from mendel.sandbox.limits import CallError, Ended, Limits, Outcome, SandboxError, Usage
from mendel.sandbox.pool import Pool, Session, run

__all__ = [
    "Backend", "CallError", "Ended", "Limits", "Outcome", "Pool", "SandboxError", "Session",
    "Usage", "backend", "run",
]  # fmt: skip
