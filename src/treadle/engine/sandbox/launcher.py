"""Fences itself in, then becomes the command: the program that our own sandboxes start.

Run by a bare interpreter (see `launcher_command`) with `OPTION... -- ARGV...`, so it imports
nothing of the package and as little as possible at all: every confined command waits for it. What
it is told to allow is decided by the backends; here is only how the kernel is told. When any step
fails the command is not run.

Options: `--namespaces` (own mount namespace, everything read-only but `--rw PATH`, `--ro PATH`
inside those), `--landlock` (no writing but below `--rw PATH`; without any, no changes of modes,
owners and times either), `--no-network`, `--cwd PATH`. Always: no new privileges, and no file can
be given a set-user-id bit.
"""

import ctypes
import os
import sys

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x20000, 0x10000000, 0x40000000, 0x8000000
MS_NOSUID, MS_BIND, MS_REC, MS_PRIVATE = 2, 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_SECCOMP = 38, 24, 22
# System calls with one number on every architecture (added after 2011), from the kernel's tables.
SYS_MOUNT_SETATTR, SYS_LL_CREATE, SYS_LL_ADD, SYS_LL_RESTRICT = 442, 444, 445, 446
IO_URING_SETUP = 425
OPENAT2 = 437


class Machine:
    """What the kernel calls things on one architecture: its audit name and its system calls."""

    audit: int
    capset: int
    connect: int
    socket: int
    socketpair: int
    modes: dict[int, tuple[int, int | None]]
    """Calls that set a file's mode: the argument that has it, and the one with O_CREAT, if any."""
    attributes: tuple[int, ...]
    """Calls that change anything of a file but its content."""


class _X86(Machine):
    audit = 0xC000003E
    capset, connect, socket, socketpair = 126, 42, 41, 53
    # chmod, fchmod, fchmodat, fchmodat2; open, openat; creat, mknod, mknodat
    modes = {
        **{90: (1, None), 91: (1, None), 268: (2, None), 452: (2, None)},
        **{2: (2, 1), 257: (3, 2), 85: (1, None), 133: (1, None), 259: (2, None)},
    }
    # The four of modes, chown.., utime.., setxattr.., removexattr..
    attributes = (
        *(90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280),
        *(188, 189, 190, 463, 197, 198, 199, 466),
    )


class _Arm(Machine):
    audit = 0xC00000B7
    capset, connect, socket, socketpair = 91, 203, 198, 199
    modes = {52: (1, None), 53: (2, None), 452: (2, None), 56: (3, 2), 33: (2, None)}
    attributes = (52, 53, 452, 54, 55, 88, 5, 6, 7, 463, 14, 15, 16, 466)


_MACHINES: dict[str, type[Machine]] = {"x86_64": _X86, "aarch64": _Arm}
S_ISUID, O_CREAT = 0o4000, 0o100
AF_UNIX, SOCK_TYPE_MASK, SOCK_STREAM, SOCK_SEQPACKET = 1, 0xF, 1, 5
LL_FS_READS = 0b1101  # execute, read file, read dir
LL_FS_DEVICES = 0b1000_0100_0000  # make devices of either kind
LL_FS_OF_FILES = 0b1100_0000_0000_0010  # write, truncate, ioctl on devices
LL_FS_BITS = (0, 13, 14, 15, 15, 16)  # file system rights known by ABI 0..5
LL_SCOPE_SIGNAL = 2
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
FAILED = 125


class SetupFailed(Exception):
    """A step did not work."""


def _check(result: int, step: str) -> int:
    if result < 0:
        raise SetupFailed(f"{step}: {os.strerror(ctypes.get_errno())}")
    return result


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind, data)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _check(result, f"mount {target}")


def _set_read_only(path: str, value: bool, recursive: bool) -> int:
    """mount_setattr(2) on the mount at `path`; negative when it failed."""
    bits = (MOUNT_ATTR_RDONLY, 0) if value else (0, MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(*bits, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    return _libc.syscall(
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_int(AT_FDCWD),
        path.encode(),
        ctypes.c_uint(flags),
        ctypes.byref(attributes),
        ctypes.c_size_t(32),
    )


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter_namespaces(network: bool) -> None:
    """Leave the shared view of mounts (and network), as the same user without power outside."""
    uid, gid = os.geteuid(), os.getegid()
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | (0 if network else CLONE_NEWNET)
    _check(_libc.unshare(flags), "unshare")
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")


def arrange_mounts(writable: list[str], protected: list[str]) -> None:
    """Make everything read-only but `writable`, and `protected` again within it."""
    _mount("none", "/", None, MS_REC | MS_PRIVATE)
    for path in writable:
        _mount(path, path, None, MS_BIND | MS_REC)
    _check(_set_read_only("/", value=True, recursive=True), "read-only root")
    for path in writable:
        # A mount below that was read-only before us stays so and fails the whole call.
        if _set_read_only(path, value=False, recursive=True) < 0:
            _check(_set_read_only(path, value=False, recursive=False), f"writable {path}")
    for path in protected:
        if os.path.lexists(path):
            _mount(path, path, None, MS_BIND | MS_REC)
            _check(_set_read_only(path, value=True, recursive=True), f"protect {path}")
    _bare_devices()


def _bare_devices() -> None:
    """Replace /dev: a read-only mount does not stop writes to a disk's device node."""
    held = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _present(_DEVICES)}
    folders = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _present(("pts",))}
    _mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=0755,size=1m")
    for name, handle in held.items():
        os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        _mount(f"/proc/self/fd/{handle}", f"/dev/{name}", None, MS_BIND)
    for name, handle in folders.items():
        os.mkdir(f"/dev/{name}")
        _mount(f"/proc/self/fd/{handle}", f"/dev/{name}", None, MS_BIND)
    os.mkdir("/dev/shm", 0o1777)
    _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID, "mode=1777,size=256m")
    for name, target in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(target, f"/dev/{name}")
    _check(_set_read_only("/dev", value=True, recursive=False), "read-only /dev")
    for handle in (*held.values(), *folders.values()):
        os.close(handle)


def _present(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if os.path.exists(f"/dev/{name}")]


def drop_powers() -> None:
    """Give up every capability, for good: also what a root user id would get back at exec."""
    for number in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    capset = _machine().capset
    result = _libc.syscall(ctypes.c_long(capset), ctypes.byref(header), ctypes.byref(nothing))
    _check(result, "capset")


def _machine() -> type[Machine]:
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise SetupFailed(f"{os.uname().machine} is not supported")
    return machine


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 without it."""
    version = _libc.syscall(ctypes.c_long(SYS_LL_CREATE), None, ctypes.c_size_t(0), 1)
    return max(0, version)


def landlock(writable: list[str] | None) -> None:
    """Forbid writing but below `writable` and to devices, and signals to processes outside.

    With None only signals are forbidden, where the kernel knows how.
    """
    abi = landlock_abi()
    rights = 0
    if writable is not None:
        rights = (1 << LL_FS_BITS[min(abi, 5)]) - 1 & ~LL_FS_READS
        if not rights:
            raise SetupFailed("no Landlock")
    scoped = LL_SCOPE_SIGNAL if abi >= 6 else 0
    if not rights and not scoped:
        return
    attributes = (ctypes.c_uint64 * 3)(rights, 0, scoped)
    size = 24 if abi >= 6 else 8
    ruleset = _check(
        _libc.syscall(
            ctypes.c_long(SYS_LL_CREATE), ctypes.byref(attributes), ctypes.c_size_t(size), 0
        ),
        "Landlock ruleset",
    )
    if rights:
        for name in _present((*_DEVICES, "pts", "ptmx")):
            _allow(ruleset, f"/dev/{name}", rights & (1 << 1 | 1 << 15))
        for path in writable or ():
            folder = os.path.isdir(path)
            _allow(ruleset, path, rights & (~LL_FS_DEVICES if folder else LL_FS_OF_FILES))
    _check(_libc.syscall(ctypes.c_long(SYS_LL_RESTRICT), ruleset, 0), "Landlock")
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return  # it went meanwhile
    rule = (ctypes.c_uint8 * 12)(*rights.to_bytes(8, "little"), *handle.to_bytes(4, "little"))
    result = _libc.syscall(ctypes.c_long(SYS_LL_ADD), ruleset, 1, ctypes.byref(rule), 0)
    os.close(handle)
    _check(result, f"Landlock rule for {path}")


# ---------------------------------------------------------------------- system calls

Instruction = tuple[int, int, int, int]
"""One of the kernel's filter language: code, steps over when true, when false, value."""

_LOAD, _EQUAL, _AT_LEAST, _BITS, _AND, _GIVE = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_REFUSE, _NO_SUCH_CALL, _PASS = 0x0005_0001, 0x0005_0026, 0x7FFF_0000  # EPERM, ENOSYS, allow


def _argument(number: int) -> Instruction:
    return (_LOAD, 0, 0, 16 + 8 * number)


def _case(call: int, body: list[Instruction]) -> list[Instruction]:
    """`body` for one call; it begins with the call's number loaded and ends in a verdict."""
    return [(_EQUAL, 0, len(body), call), *body]


def _no_set_user_id(machine: type[Machine]) -> list[Instruction]:
    """No file gets a set-user-id bit: whoever ran it would not be fenced."""
    refuse, allow = (_GIVE, 0, 0, _REFUSE), (_GIVE, 0, 0, _PASS)
    program = _case(OPENAT2, [(_GIVE, 0, 0, _NO_SUCH_CALL)])  # its mode cannot be looked at
    for call, (mode, flags) in machine.modes.items():
        body = [_argument(mode), (_BITS, 0, 1, S_ISUID), refuse, allow]
        if flags is not None:
            body = [_argument(flags), (_BITS, 0, 3, O_CREAT), *body]
        program += _case(call, body)
    return program


def _no_attributes(machine: type[Machine]) -> list[Instruction]:
    return [i for call in machine.attributes for i in _case(call, [(_GIVE, 0, 0, _REFUSE)])]


def _no_network(machine: type[Machine], *, sockets: bool) -> list[Instruction]:
    """Refuse to connect, also to sockets in the file system, which no namespace hides.

    A local datagram socket needs no connection to send, so it cannot be made. With `sockets` other
    kinds than local ones cannot either, where no network namespace does that job.
    """
    refuse, allow = (_GIVE, 0, 0, _REFUSE), (_GIVE, 0, 0, _PASS)
    program = _case(machine.connect, [refuse]) + _case(IO_URING_SETUP, [refuse])
    local = [
        *(_argument(1), (_AND, 0, 0, SOCK_TYPE_MASK)),
        *((_EQUAL, 1, 0, SOCK_STREAM), (_EQUAL, 0, 1, SOCK_SEQPACKET), allow, refuse),
    ]
    other = refuse if sockets else allow
    for call in (machine.socket, machine.socketpair):
        body = [_argument(0), (_EQUAL, 1, 0, AF_UNIX), other, *local]
        program += _case(call, body)
    return program


def filter_calls(*, network: bool, attributes: bool, sockets: bool) -> None:
    """Refuse system calls that lead out of the fence. Foreign call tables are refused whole.

    Args:
        network: whether connections may be made.
        attributes: whether modes, owners and times of files may be changed.
        sockets: whether it is for us to keep sockets of the network from being made.
    """
    machine = _machine()
    program: list[Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, machine.audit),
        (_GIVE, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, 0x4000_0000),
        (_GIVE, 0, 0, _REFUSE),
    ]
    if not attributes:
        program += _no_attributes(machine)
    program += _no_set_user_id(machine)
    if not network:
        program += _no_network(machine, sockets=sockets)
    program.append((_GIVE, 0, 0, _PASS))
    code = b"".join(
        op.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
        for op, yes, no, value in program
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: length, padding to the pointer's alignment, pointer.
    fprog = (ctypes.c_uint64 * 2)(len(program), ctypes.addressof(buffer))
    _check(_libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(fprog), 0, 0), "seccomp")


def main(arguments: list[str]) -> int:
    """Set up what the options say and become the command; a status only when that failed."""
    split = arguments.index("--")
    options, argv = arguments[:split], arguments[split + 1 :]
    paths = {"--rw": list[str](), "--ro": list[str](), "--cwd": list[str]()}
    flags: set[str] = set()
    words = iter(options)
    for word in words:
        if word in paths:
            paths[word].append(next(words))
        else:
            flags.add(word)
    try:
        _confine(flags, paths["--rw"], paths["--ro"])
    except (SetupFailed, OSError) as error:
        if "--explain" in flags:
            sys.stderr.write(f"{error}\n")
        else:
            sys.stderr.write("treadle: the sandbox could not be set up; nothing was run\n")
        return FAILED
    return _become(argv, paths["--cwd"])


def _confine(flags: set[str], writable: list[str], protected: list[str]) -> None:
    network = "--no-network" not in flags
    namespaces, by_landlock = "--namespaces" in flags, "--landlock" in flags
    if namespaces:
        enter_namespaces(network)
        arrange_mounts(writable, protected)
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    if namespaces or by_landlock:
        landlock(writable if by_landlock else None)
        drop_powers()
    # Mounts that are read-only keep everything of a file as it is; Landlock its content alone.
    attributes = not by_landlock or bool(writable)
    filter_calls(network=network, attributes=attributes, sockets=by_landlock)


def _become(argv: list[str], cwd: list[str]) -> int:
    try:
        for folder in cwd:
            # Again: the folder we stand in lies below the mounts made meanwhile.
            os.chdir(folder)
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126
