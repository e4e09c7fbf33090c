"""Talking to anybody outside."""

from __future__ import annotations

from .attack import Attack

IPV4, IPV6, UNIX, DNS, OTHER = (
    "connect by IPv4",
    "connect by IPv6",
    "connect by UNIX socket",
    "ask DNS",
    "other sockets",
)


def connect(name: str, kind: str, statement: str, **more: object) -> Attack:
    """The listeners of the world hear it."""
    return Attack(name, kind, f"def main(i):\n    {statement}\n    return {{}}", **more)  # type: ignore[arg-type]


ATTACKS = (
    connect("TCP", IPV4, "socket.create_connection(('127.0.0.1', i['tcp4']), 1)", harmless=True),
    connect(
        "UDP", IPV4, "socket.socket(2, 2).sendto(b'x', ('127.0.0.1', i['udp']))", harmless=True
    ),
    Attack("by a shell", IPV4, ("bash", "-c", "echo x > /dev/tcp/127.0.0.1/{tcp4}"), harmless=True),
    Attack(
        "listen",
        IPV4,
        """
        def main(i):
            listener = socket.create_server(("127.0.0.1", 0))
            return {"got": listener.getsockname()[1]}
    """,
        harmless=True,
    ),
    connect(
        "ask for the machine's addresses",
        OTHER,
        """import fcntl
    left, right = socket.socketpair()
    fcntl.ioctl(left, 0x8912, struct.pack("iL", 0, 0))
    return {'got': True}""",
        harmless=True,
    ),
    connect("TCP", IPV6, "socket.create_connection(('::1', i['tcp6']), 1)", harmless=True),
    connect("by its path", UNIX, "socket.socket(1, 1).connect(i['unix'])", harmless=True),
    connect(
        "without a path", UNIX, "socket.socket(1, 1).connect('\\0' + i['abstract'])", harmless=True
    ),
    connect(
        "a pair turned around, by its path",
        UNIX,
        "socket.socketpair(1, 2)[0].sendto(b'x', i['unix_datagrams'])",
        harmless=True,
    ),
    connect(
        "a pair turned around, without a path",
        UNIX,
        "socket.socketpair(1, 2)[0].sendto(b'x', '\\0' + i['abstract'] + 'd')",
        harmless=True,
    ),
    Attack(
        "a name",
        DNS,
        """
        def main(i):
            return {"got": [a[4][0] for a in socket.getaddrinfo("example.com", 80)]}
    """,
    ),
    Attack(
        "a server, by hand",
        DNS,
        """
        def main(i):
            question = b"\\1\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7example\\3com\\0\\0\\1\\0\\1"
            talk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            talk.settimeout(0.5)
            talk.sendto(question, ("127.0.0.1", i["udp"]))
            return {"got": True}
    """,
        harmless=True,
    ),
    Attack(
        "netlink",
        OTHER,
        """
        def main(i):
            talk = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
            return {"got": talk.bind((0, 0)) is None}
    """,
        harmless=True,
    ),
    Attack(
        "to a hypervisor",
        OTHER,
        """
        def main(i):
            return {"got": socket.socket(40, socket.SOCK_STREAM).fileno()}
    """,
    ),
    Attack(
        "raw packets",
        OTHER,
        """
        def main(i):
            return {"got": socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768).fileno()}
    """,
    ),
    Attack(
        "io_uring",
        OTHER,
        """
        def main(i):
            return {"got": syscall("io_uring_setup", 4, ctypes.create_string_buffer(256))}
    """,
    ),
    Attack(
        "the kernel's crypto",
        OTHER,
        """
        def main(i):
            return {"got": socket.socket(38, socket.SOCK_SEQPACKET).fileno()}
    """,
    ),
)
