"""Lying to the harness: forged, malformed and poisonous results, and tools that were replaced."""

from __future__ import annotations

from dataclasses import replace

from mendel.sandbox import Outcome

from .attack import MB, SHORT, Attack

FORGE, EARLY, FRAMES, PICKLE, BOMB, TAMPER = (
    "forge the result",
    "exit early",
    "malformed frames",
    "pickle in the result",
    "decompression bomb",
    "replace the evaluator or torch",
)
# the trial's own channel to the harness, found by its kind
CHANNEL = """
def channels():
    for fd in range(3, 256):
        try:
            yield socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
def frame(text, blob=b""):
    return struct.pack("<QQ", len(text), len(blob)) + text + blob
def say(raw):
    for channel in channels():
        channel.sendall(raw)
    os._exit(0)
GOOD = b'{"kind": "result", "value": {"score": 1}, "torch": {}}'
"""
BAD = ("malformed result",)


def raw(name: str, expression: str, ends: tuple[str, ...] = BAD, kind: str = FRAMES) -> Attack:
    """Bytes on the channel instead of a result."""
    return Attack(name, kind, f"{CHANNEL}\ndef main(i):\n    say({expression})", ends=ends)


def only_text(outcome: Outcome) -> str | None:
    size = sum(map(len, map(str, (outcome.result or {}).values())))
    return f"{size} characters on the host" if size > 4 * MB else None


NESTED = "frame(GOOD.replace(b'1', b'[' * 100_000 + b']' * 100_000))"
REPLACE = """
        import builtins, json, torch
        def wrong(*values, **names): return 1.0
        def main(i):
            torch.add = torch.Tensor.sum = torch.equal = torch.allclose = wrong
            torch.nn.functional.cross_entropy = torch.Tensor.__lt__ = wrong
            json.loads = json.dumps = builtins.sum = wrong
            from mendel.sandbox import frames, limits, supervisor, trial
            frames.encode = frames.decode = trial.run = supervisor.supervise = wrong
            limits.Limits.wall_s = 1e9
            return {}
"""
ATTACKS = (
    Attack(
        "print a score",
        FORGE,
        """
        def main(i):
            print('{"score": 1.0, "ended": "done"}')
            os._exit(0)
    """,
        ends=("no result",),
    ),
    raw("two results", "frame(GOOD) * 2", kind=FORGE),
    Attack(
        "a good one by hand, then fail",
        FORGE,
        f"""{CHANNEL}
def main(i):
    for channel in channels(): channel.sendall(frame(GOOD))
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(1)
""",
        ends=("crashed",),
        proof=lambda o: "kept" if o.result else None,
    ),
    Attack(
        "a good one by hand, then the true one",
        FORGE,
        f"""{CHANNEL}
def main(i):
    for channel in channels(): channel.sendall(frame(GOOD))
    return {{"score": 0}}
""",
        ends=BAD,
    ),
    Attack(
        "the supervisor's report",
        FORGE,
        """
        def main(i):
            report = b'{"killed": null, "exit_code": 0, "signal": null, "wall_s": 0}'
            for fd in range(3, 256):
                try: os.write(fd, report)
                except OSError: continue
            os._exit(7)
    """,
        ends=BAD,
    ),
    Attack(
        "that it ran out of time",
        FORGE,
        f"""{CHANNEL}
def main(i):
    late = b'"failed", "value": {{"ended": "wall time", "message": ""}}, "torch": {{}}}}'
    say(frame(b'{{"kind": ' + late))
""",
        ends=BAD,
    ),
    Attack(
        "an answer before the question",
        FORGE,
        f"""{CHANNEL}
def serve(request):
    for channel in channels(): channel.sendall(frame(GOOD) * 3)
    return {{"score": 0}}
""",
        ends=BAD,
        session=2,
    ),
    Attack("success", EARLY, "def main(i):\n    os._exit(0)", ends=("no result",)),
    Attack("success, when loaded", EARLY, "os._exit(0)", ends=("no result",)),
    Attack("SystemExit", EARLY, "def main(i):\n    sys.exit(0)", ends=("no result",)),
    Attack(
        "close everything",
        EARLY,
        "def main(i):\n    os.closerange(0, 1024)\n    return {}",
        ends=("no result", "exception", "crashed"),
    ),
    Attack("a session that leaves", EARLY, "def serve(r):\n    os._exit(0)", session=1),
    raw("a length of 2^60", "struct.pack('<QQ', 2**60, 0) + b'x'"),
    raw("lengths that overflow together", "struct.pack('<QQ', 2**63, 2**63) + b'x'"),
    raw("a length of nothing", "struct.pack('<QQ', 0, 0)"),
    raw("half a frame", "frame(GOOD)[:-5]"),
    raw("half a head", "b'abc'"),
    raw("noise", "os.urandom(100_000)"),
    raw("text that is no JSON", "frame(b'{' * 50)"),
    raw("JSON that is no object", "frame(b'[1, 2]')"),
    raw("fields of other types", 'frame(b\'{"kind": 1, "value": [], "torch": null}\')'),
    raw("a kind that nobody knows", "frame(GOOD.replace(b'result', b'verdict'))"),
    raw("text that is no UTF-8", "frame(GOOD.replace(b'score', bytes([255, 254])))"),
    raw("half a surrogate", "frame(GOOD.replace(b'score', rb'\\ud800'))"),
    raw("an integer of a million digits", "frame(GOOD.replace(b'1', b'9' * 1_000_000))"),
    raw("an integer beyond 64 bits", "frame(GOOD.replace(b'1', b'9' * 25))"),
    raw("100,000 brackets", NESTED),
    raw("tensors of noise", "frame(GOOD, os.urandom(1000))"),
    raw(
        "a tensor with a wrong size",
        'frame(GOOD, struct.pack(\'<Q\', 62) + b\'{"a":{"dtype":"F32","shape":[1000],'
        "\"data_offsets\":[0,4]}}    ' + b'abcd')",
    ),
    raw(
        "a tensor with an overflowing size",
        'frame(GOOD, struct.pack(\'<Q\', 90) + b\'{"a":{"dtype":"F32","shape":'
        '[4294967296,4294967296],"data_offsets":[0,0]}}\'.ljust(90))',
    ),
    raw(
        "a tensor of a type that nobody knows",
        'frame(GOOD, struct.pack(\'<Q\', 70) + b\'{"a":{"dtype":"F4","shape":[2],'
        "\"data_offsets\":[0,1]}}'.ljust(70) + b'x')",
    ),
    raw(
        "bools that are neither 0 nor 1",
        'frame(GOOD, struct.pack(\'<Q\', 70) + b\'{"a":{"dtype":"BOOL","shape":[2],'
        "\"data_offsets\":[0,2]}}'.ljust(70) + b'x1')",
    ),
    raw("names of a gigabyte", "frame(GOOD, struct.pack('<Q', 2**30) + b'{}')"),
    Attack(
        "descriptors to the harness",
        FRAMES,
        f"""{CHANNEL}
def main(i):
    for channel in channels():
        socket.send_fds(channel, [frame(GOOD)], [0, 1, 2])
    os._exit(0)
""",
        ends=("done",),
    ),
    Attack(
        "a session's frame above the limit",
        FRAMES,
        f"""{CHANNEL}
def serve(request):
    say(struct.pack('<QQ', 100, 2**40))
""",
        ends=BAD,
        session=1,
    ),
    Attack(
        "a result that runs when unpickled",
        PICKLE,
        """
        class Bomb:
            def __init__(self, path): self.path = path
            def __reduce__(self): return (open, (self.path, "w"))
        def main(i):
            return {"score": Bomb(i["open"] + "/owned")}
    """,
        ends=("exception",),
    ),
    Attack(
        "its bytes in place of a frame",
        PICKLE,
        f"""{CHANNEL}
import pickle
class Bomb:
    def __reduce__(self): return (os.system, ("touch /tmp/owned",))
def main(i):
    say(frame(pickle.dumps(Bomb()), pickle.dumps(Bomb())))
""",
        ends=BAD,
    ),
    Attack(
        "an array of objects",
        PICKLE,
        """
        import numpy
        def main(i):
            return {"score": numpy.array([open], dtype=object)}
    """,
        ends=("exception",),
    ),
    Attack(
        "gzip as text",
        BOMB,
        """
        import base64, zlib
        def main(i):
            packed = zlib.compress(bytes(50 << 20), 9)
            return {"file.gz": base64.b64encode(zlib.compress(packed, 9)).decode()}
    """,
        ends=("done",),
        proof=only_text,
    ),
    Attack(
        "gzip as a tensor",
        BOMB,
        """
        import numpy, zlib
        def main(i):
            return {"packed": numpy.frombuffer(zlib.compress(bytes(50 << 20), 9), "uint8")}
    """,
        ends=("done",),
        proof=only_text,
    ),
    Attack(
        "gzip in place of a frame",
        BOMB,
        f"""{CHANNEL}
import gzip
def main(i):
    say(frame(gzip.compress(bytes(50 << 20))))
""",
        ends=BAD,
    ),
    Attack(
        "unpacked in its scratch",
        BOMB,
        """
        import zlib
        def main(i):
            packed = zlib.compress(bytes(50 << 20), 9)
            with open("unpacked", "wb") as file: file.write(zlib.decompress(packed))
            return {"got": True}
    """,
        replace(SHORT, scratch_bytes=4 * MB),
        ("disk", "exception"),
    ),
    Attack("torch's functions, the wire, the limits", TAMPER, REPLACE),
    Attack(
        "what runs at exit",
        TAMPER,
        """
        import atexit, threading
        def main(i):
            atexit.register(lambda: open(i["open"] + "/owned", "w"))
            threading.excepthook = sys.excepthook = lambda *a: None
            return {}
    """,
    ),
    Attack(
        "the files of torch, and its cache",
        TAMPER,
        """
        import torch, pathlib
        def main(i):
            for path in pathlib.Path(torch.__file__).parent.glob("*.py"):
                try:
                    with open(path, "a") as file: return {"got": str(path)}
                except OSError: continue
            return {}
    """,
    ),
)
