"""Which system calls a trial may not make: rules as a table, assembled for the kernel's filter.

The filter is the second wall behind namespaces or Landlock: it closes what they leave open (other
users' files by chmod, sockets that need no path) and takes parts of the kernel out of reach.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mendel.sandbox import linux
from mendel.sandbox.calls import LAST, NUMBERS
from mendel.sandbox.limits import SandboxError

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH
X32 = 0x40000000  # x86_64 has a second table of calls from here on
KILL, ERRNO, ALLOW = 0x80000000, 0x50000, 0x7FFF0000
LOAD, EQUAL, GREATER, AT_LEAST, ANY_BIT, RETURN, AND = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06, 0x54
NR, ARCH, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

NEVER = {
    "other processes": """ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd
        process_madvise process_mrelease migrate_pages move_pages""",
    "programs in the kernel": """bpf perf_event_open userfaultfd io_uring_setup io_uring_enter
        io_uring_register init_module finit_module delete_module kexec_load kexec_file_load""",
    "mounts and namespaces": """mount umount2 mount_setattr move_mount open_tree fsopen fsconfig
        fsmount fspick pivot_root chroot setns unshare""",
    "files without their path": "open_by_handle_at name_to_handle_at",
    "network": "socket connect bind listen accept accept4",
    "keys": "keyctl add_key request_key",
    "the machine": """reboot swapon swapoff acct quotactl quotactl_fd sethostname setdomainname
        syslog vhangup iopl ioperm modify_ldt personality lookup_dcookie nfsservctl uselib sysfs""",
    "its clock": "settimeofday clock_settime clock_adjtime adjtimex",
    "memory that no limit counts": "memfd_create memfd_secret vmsplice tee",
    "a ring that all users share": """io_setup io_destroy io_submit io_cancel io_getevents
        io_pgetevents""",
    "talk between processes": """msgget msgsnd msgrcv msgctl shmget shmat shmctl shmdt semget semop
        semctl semtimedop mq_open mq_unlink mq_notify""",
    "watching others' files": """fanotify_init fanotify_mark inotify_init inotify_init1
        inotify_add_watch""",
}

# Landlock guards what is in files, not what is on them: owner, mode, times, attributes. Under it
# nothing is writable, so nothing that is honest needs these.
METADATA = {
    "mode and owner": "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat",
    "times": "utime utimes utimensat futimesat",
    "attributes": """setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr""",
    "reading attributes": "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr",
}
# as a file system without attributes answers: programs that copy files go on
ANSWERS = dict.fromkeys(METADATA["reading attributes"].split(), errno.ENOTSUP)
FORKS = {"new processes": "fork vfork"}
SIGNALS = {"signals whose target is no argument": "tkill pidfd_send_signal"}


@dataclass(frozen=True)
class When:
    """Refuse a call where an argument (its lower 32 bits, of those of the mask) is, is not, has or
    lacks a value."""

    call: str
    argument: int
    test: str
    value: int
    errno: int = errno.EPERM
    mask: int = 0xFFFFFFFF

    def block(self) -> list[tuple[int, int, int, int]]:
        """Instructions that end the filter where it matches and go on where not."""
        code = ANY_BIT if self.test in ("has", "lacks") else EQUAL
        on, off = (0, 1) if self.test in ("is", "has") else (1, 0)
        return [
            (LOAD, 0, 0, ARGUMENTS + 8 * self.argument),
            (AND, 0, 0, self.mask),
            (code, on, off, self.value),
            (RETURN, 0, 0, ERRNO | self.errno),
        ]


NAMESPACES = (
    linux.NEWNS | linux.NEWCGROUP | linux.NEWUTS | linux.NEWIPC
    | linux.NEWUSER | linux.NEWPID | linux.NEWNET
)  # fmt: skip
CLONE_THREAD, CLONE_FILES = 0x10000, 0x400
SETPIPE_SZ = 1031
ALWAYS = (
    When("clone", 0, "has", NAMESPACES),
    # descriptors of a thread's own would be counted apart
    When("clone", 0, "is", CLONE_THREAD, mask=CLONE_THREAD | CLONE_FILES),
    When("close_range", 2, "has", 2),  # CLOSE_RANGE_UNSHARE
    When("fcntl", 1, "is", SETPIPE_SZ),  # the room for it is one for all of the user's processes
    When("socketpair", 0, "is not", 1),  # AF_UNIX alone
    When("socketpair", 1, "has", 2),  # a pair of datagrams can be connected to somebody else
    When("ioctl", 1, "is", 0x5412),  # TIOCSTI types into a terminal
    When("ioctl", 1, "is", 0x541C),  # TIOCLINUX pastes into one
    When("ioctl", 1, "is", 0x8900, mask=0xFF00),  # SIOC*: addresses of the machine; owners
    When("prlimit64", 0, "is not", 0),  # limits, priority, cores: only one's own
    When("sched_setaffinity", 0, "is not", 0),
    When("sched_setscheduler", 0, "is not", 0),
    When("sched_setparam", 0, "is not", 0),
    When("sched_setattr", 0, "is not", 0),
    When("setpriority", 0, "is not", 0),
    When("setpriority", 1, "is not", 0),
    When("ioprio_set", 0, "is not", 1),
    When("ioprio_set", 1, "is not", 0),
    When("prctl", 0, "is", linux.PDEATHSIG),  # the signal that ends it with its watcher
)
# a lease makes others wait who open the file to write
LEASES = (When("fcntl", 1, "is", 1024), When("fcntl", 1, "is", 1026))


def own_signals(pid: int) -> tuple[When, ...]:
    """Where the kernel does not scope signals: a trial of one process signals only itself."""
    calls = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
    owner = [When("fcntl", 1, "is", command) for command in (8, 15)]  # F_SETOWN, F_SETOWN_EX
    return (*(When(call, 0, "is not", pid) for call in calls), *owner)


def program(tables: Iterable[Mapping[str, str]], when: Iterable[When]) -> bytes:
    """The filter as the kernel wants it. Raises SandboxError on another kind of processor."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise SandboxError(
            f"no table of system calls for {machine}. Wanted {' or '.join(ARCHITECTURES)}. "
            f"Run it on such a machine, or pass unsafe=True if you trust the code."
        )
    column, arch = ARCHITECTURES[machine]
    lines = [(LOAD, 0, 0, ARCH), (EQUAL, 1, 0, arch), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NR)]
    lines += [(AT_LEAST, 0, 1, X32), (RETURN, 0, 0, KILL)]
    # a library asks whether a new call exists and then does without: "no" is the right answer
    lines += [(GREATER, 0, 1, LAST), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for name in (name for table in tables for names in table.values() for name in names.split()):
        number = NUMBERS[name][column]
        if number is not None:
            answer = ERRNO | ANSWERS.get(name, errno.EPERM)
            lines += [(EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]
    # clone3 hides its flags in memory; the C library falls back to clone
    clone3 = NUMBERS["clone3"][column] or 0
    lines += [(EQUAL, 0, 1, clone3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for rule in when:
        number = NUMBERS[rule.call][column]
        if number is not None:
            block = [*rule.block(), (LOAD, 0, 0, NR)]
            lines += [(EQUAL, 0, len(block), number), *block]
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def install(filter: bytes) -> None:
    """From here on, for this process and all it starts. Wants no_new_privs."""
    buffer = ctypes.create_string_buffer(filter, len(filter))
    header = struct.pack("<HxxxxxxQ", len(filter) // 8, ctypes.addressof(buffer))
    held = ctypes.create_string_buffer(header, len(header))
    linux.prctl(linux.SECCOMP, 2, ctypes.addressof(held))


def restrict(*, processes: int, landlock: bool, scoped: bool) -> None:
    """The rules of one trial.

    processes   1 = no fork
    landlock    there is no view of the files of its own: their metadata is out of reach too
    scoped      a namespace or Landlock keeps signals inside
    """
    tables, when = [NEVER], list(ALWAYS)
    if processes == 1:
        tables.append(FORKS)
        when.append(When("clone", 0, "lacks", CLONE_THREAD))
    if landlock:
        tables.append(METADATA)
        when += LEASES
    if not scoped:
        tables.append(SIGNALS)
        when += own_signals(os.getpid())
    install(program(tables, when))
