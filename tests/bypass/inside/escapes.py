"""Runs inside and outside alike: ways out of what surrounds a process. Most carry no data: whether the call succeeds is the finding."""

import contextlib
import ctypes
import errno
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys

from driver import attack

LIBC = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER, NEWPID, NEWNET, NEWCGROUP = 0x20000, 0x10000000, 0x20000000, 0x40000000, 0x2000000


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def call(number, *arguments):
    return check(LIBC.syscall(ctypes.c_long(number), *arguments))


def stream(facts, token):
    with socket.create_connection((facts["v4"], facts["port"]), 1) as sock:
        sock.sendall(token)
        return "out" if sock.recv(100) else "closed"


def mount(source, target, kind, flags=0):
    check(LIBC.mount(source.encode(), str(target).encode(), kind.encode(), flags, None))


def victim():
    """A child of ours, as an allowed process that attacks are aimed at."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; word = b'untouched' * 9; print('up', flush=True); time.sleep(15)"], stdout=subprocess.PIPE
    )
    child.stdout.readline()
    return child


@contextlib.contextmanager
def target():
    child = victim()
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


# namespaces and mounts


@attack("setns")
def _(facts, token):
    """Into the network namespace of process 1, or, where that is out of reach, into one by its descriptor at all."""
    try:
        descriptor = os.open("/proc/1/ns/net", os.O_RDONLY)
    except PermissionError:
        descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    check(LIBC.setns(descriptor, NEWNET))
    return stream(facts, token)


@attack("unshare")
def _(facts, token):
    check(LIBC.unshare(NEWNS | NEWNET))
    return "out"


@attack("unshare-user")
def _(facts, token):
    check(LIBC.unshare(NEWUSER))
    return "out"


@attack("clone-flags")
def _(facts, token):
    """clone(2) with a new user and network namespace."""
    child = LIBC.syscall(56, NEWUSER | NEWNET | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    check(child)
    os.waitpid(child, 0)
    return "out"


@attack("clone3-flags")
def _(facts, token):
    arguments = (ctypes.c_uint64 * 11)(NEWUSER | NEWNET, 0, 0, 0, signal.SIGCHLD)
    child = LIBC.syscall(435, ctypes.byref(arguments), 88)
    if child == 0:
        os._exit(0)
    check(child)
    os.waitpid(child, 0)
    return "out"


def hierarchies():
    lines = [line.split(" - ") for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    return [left.split()[4] for left, right in lines if right.startswith("cgroup2 ")]


@attack("cgroup-move")
def _(facts, token):
    """Out of the governed cgroup, into one of our own."""
    for top in hierarchies():
        place = pathlib.Path(top, f"stockade-bypass-{os.getpid()}")
        place.mkdir()
        (place / "cgroup.procs").write_text("0")
        said = stream(facts, token)
        pathlib.Path(top, "cgroup.procs").write_text("0")
        place.rmdir()
        return said
    return "no cgroupfs"


@attack("cgroup-remount")
def _(facts, token):
    place = pathlib.Path(f"cgroupfs-{os.getpid()}")
    place.mkdir()
    mount("none", place, "cgroup2")
    check(LIBC.umount2(str(place).encode(), 2))
    return "out"


@attack("mount-tmpfs")
def _(facts, token):
    place = pathlib.Path(f"tmpfs-{os.getpid()}")
    place.mkdir()
    mount("none", place, "tmpfs")
    check(LIBC.umount2(str(place).encode(), 2))
    return "out"


@attack("mount-bind")
def _(facts, token):
    """A denied binary bound over an allowed one."""
    place = pathlib.Path(f"bound-{os.getpid()}")
    place.touch()
    mount("/usr/bin/id", place, "", 4096)
    check(LIBC.umount2(str(place).encode(), 2))
    return "out"


@attack("mount-overlay")
def _(facts, token):
    place = pathlib.Path(f"overlay-{os.getpid()}")
    for name in ("upper", "work", "merged"):
        (place / name).mkdir(parents=True)
    check(
        LIBC.mount(
            b"overlay",
            str(place / "merged").encode(),
            b"overlay",
            0,
            f"lowerdir=/usr/bin,upperdir={place}/upper,workdir={place}/work".encode(),
        )
    )
    check(LIBC.umount2(str(place / "merged").encode(), 2))
    return "out"


@attack("open-by-handle")
def _(facts, token):
    """A file of the host by its handle, past every mount."""
    inside = facts["phase"] != "control"
    seen = pathlib.Path(facts["seen"] if inside else facts["policy"])  # an emulated guest's root has no handles, its /var/tmp has
    handle = (ctypes.c_char * 136)()
    struct.pack_into("I", handle, 0, 128)
    mount_id = ctypes.c_int()
    check(LIBC.name_to_handle_at(-100, os.fsencode(seen), ctypes.byref(handle), ctypes.byref(mount_id), 0))
    descriptor = os.open("/usr" if inside else seen.parent, os.O_RDONLY)
    os.close(check(LIBC.open_by_handle_at(descriptor, ctypes.byref(handle), os.O_RDONLY)))
    return "out"


@attack("chroot")
def _(facts, token):
    os.chroot("/usr")
    return "out"


# other processes


@attack("ptrace")
def _(facts, token):
    with target() as pid:
        check(LIBC.ptrace(16, pid, None, None))  # PTRACE_ATTACH
        os.waitpid(pid, 0)
    return "out"


@attack("ptrace-me")
def _(facts, token):
    child = os.fork()
    if child == 0:
        os._exit(0 if LIBC.ptrace(0, 0, None, None) == 0 else ctypes.get_errno())
    status = os.waitpid(child, 0)[1]
    return "out" if not status else errno.errorcode[os.waitstatus_to_exitcode(status)]


def writable(pid):
    """The first private writable mapping of a process."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if rights == "rw-p":
            return int(span.split("-")[0], 16)
    raise FileNotFoundError(pid)


@attack("proc-mem")
def _(facts, token):
    with target() as pid, open(f"/proc/{pid}/mem", "r+b", 0) as memory:  # noqa: PTH123
        memory.seek(writable(pid))
        memory.write(token)
    return "out"


@attack("proc-mem-of-one")
def _(facts, token):
    """The memory of process 1; on the machine itself, the driver's."""
    whose = os.getppid() if facts["phase"] == "control" else 1
    os.close(os.open(f"/proc/{whose}/mem", os.O_RDWR))
    return "out"


class Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


@attack("process-vm-writev")
def _(facts, token):
    with target() as pid:
        data = ctypes.create_string_buffer(token)
        ours, theirs = Iovec(ctypes.addressof(data), len(token)), Iovec(writable(pid), len(token))
        check(LIBC.process_vm_writev(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0))
    return "out"


@attack("proc-fd")
def _(facts, token):
    """A file that process 1 has open, through its /proc/PID/fd; on the machine itself, the driver's."""
    whose = os.getppid() if facts["phase"] == "control" else 1
    for name in os.listdir(f"/proc/{whose}/fd"):  # noqa: PTH208
        os.close(os.open(f"/proc/{whose}/fd/{name}", os.O_RDONLY | os.O_NONBLOCK))
        return "out"
    return "none open"


@attack("pidfd-getfd")
def _(facts, token):
    with target() as pid:
        os.close(call(438, os.pidfd_open(pid), 1, 0))
    return "out"


@attack("mm-exe-file")
def _(facts, token):
    """PR_SET_MM_EXE_FILE: another file as what was executed."""
    descriptor = os.open("/usr/bin/id", os.O_RDONLY)
    check(LIBC.prctl(35, 13, descriptor, 0, 0))
    return "out"


@attack("seccomp-listener")
def _(facts, token):
    """A filter that answers the calls of our own children."""
    allow = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(allow)
    program = struct.pack("<HxxxxxxQ", 1, ctypes.addressof(code))
    check(LIBC.prctl(38, 1, 0, 0, 0))
    os.close(call(317, 1, 8, program))
    return "out"


@attack("seccomp-listener-flags")
def _(facts, token):
    """The same with other flags beside it."""
    allow = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(allow)
    program = struct.pack("<HxxxxxxQ", 1, ctypes.addressof(code))
    check(LIBC.prctl(38, 1, 0, 0, 0))
    os.close(call(317, 1, 8 | 16 | 1, program))
    return "out"


@attack("setuid")
def _(facts, token):
    """A set-uid program of root's gives its user more than it had."""
    before = os.geteuid() if facts["phase"] != "control" else 65534
    ids = {} if facts["phase"] != "control" else {"user": 65534, "group": 65534}
    after = int(subprocess.run([facts["setuid"], "-u"], capture_output=True, text=True, check=True, **ids).stdout)
    return "out" if after != before else "no more than before"


@attack("sudo")
def _(facts, token):
    ids = {} if facts["phase"] != "control" else {"user": 65534, "group": 65534}
    for program in ("/usr/bin/sudo", "/bin/su"):
        if pathlib.Path(program).exists():
            done = subprocess.run([program, "--version"], capture_output=True, **ids)
            return "out" if done.returncode == 0 else f"ended with {done.returncode}"
    return "none here"


@attack("file-capabilities")
def _(facts, token):
    """A program whose file says CAP_NET_RAW."""
    ids = {} if facts["phase"] != "control" else {"user": 65534, "group": 65534}
    status = subprocess.run([facts["capable"], "/proc/self/status"], capture_output=True, text=True, **ids)
    rights = [line for line in status.stdout.splitlines() if line.startswith("CapEff")]
    effective = int(rights[0].split()[1], 16) if rights else 0
    mine = int(
        next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff")).split()[1], 16
    )
    return "out" if effective & ~(0 if facts["phase"] == "control" else mine) else status.stderr.strip() or "no more than before"


# the agent


@attack("kill-agent")
def _(facts, token):
    os.kill(facts["pid"], 0)
    return "out"


@attack("kill-worker")
def _(facts, token):
    """Any process at all that is neither 1 nor ours, by number."""
    mine = {1, os.getpid(), os.getppid(), os.getpgrp()}
    for pid in range(2, 65536):
        if pid not in mine:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, 0)
                return f"out: {pid}"
    return "ESRCH"


@attack("stop-everything")
def _(facts, token):
    """SIGSTOP to every process in reach but process 1 and the driver."""
    return "left out" if facts["phase"] == "control" else stop_all()


def stop_all():
    said = "ESRCH"
    for pid in range(2, 40000):
        if pid in (os.getpid(), os.getppid()):
            continue
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGSTOP)
            said = f"stopped {pid}"
    return said


@attack("bpf")
def _(facts, token):
    os.close(call(321, 0, struct.pack("<IIIII", 2, 4, 4, 1, 0).ljust(128, b"\0"), 128))  # BPF_MAP_CREATE, an array
    return "out"


@attack("bpf-detach")
def _(facts, token):
    """The first program of all, as a number to detach it by. Whoever hears that there is none was let ask: rights come first."""
    attributes = bytearray(struct.pack("<II", 0, 0).ljust(128, b"\0"))
    buffer = (ctypes.c_char * 128).from_buffer(attributes)
    with contextlib.suppress(FileNotFoundError):
        call(321, 11, buffer, 128)  # BPF_PROG_GET_NEXT_ID
    return "out"


@attack("unpin")
def _(facts, token):
    """Where the links are pinned."""
    found = [path for path in (facts["pins"], "/sys/fs/bpf", "/run/stockade") if pathlib.Path(path).exists()]
    return "out" if found else "ENOENT"


@attack("perf")
def _(facts, token):
    os.close(call(298, struct.pack("<II", 1, 128).ljust(128, b"\0"), 0, -1, -1, 0))
    return "out"


@attack("binfmt-misc")
def _(facts, token):
    place = pathlib.Path(f"binfmt-{os.getpid()}")
    place.mkdir()
    mount("none", place, "binfmt_misc")
    check(LIBC.umount2(str(place).encode(), 2))
    return "out"


@attack("control-socket")
def _(facts, token):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(facts["control_socket"])
    return "out"


def reached(path):
    pathlib.Path(path).read_bytes()
    return "out"


@attack("audit-file")
def _(facts, token):
    return reached(facts["audit"])


@attack("policy-file")
def _(facts, token):
    return reached(facts["policy"])


@attack("ca-key")
def _(facts, token):
    """Anything that says PRIVATE KEY in what the sandbox was given to trust, and in its environment."""
    texts = list(os.environb.values())
    for place in ("/etc/ssl", "/etc/stockade", "/usr/local/share/ca-certificates"):
        for path in pathlib.Path(place).rglob("*"):
            with contextlib.suppress(OSError):
                texts.append(path.read_bytes())
    for path in os.environ.values():
        with contextlib.suppress(OSError, ValueError):
            texts.append(pathlib.Path(path).read_bytes())
    if facts["phase"] == "control":
        texts.append(pathlib.Path(facts["key"]).read_bytes())
    return "out" if any(b"PRIVATE KEY" in text for text in texts) else f"none in {len(texts)} texts"


@attack("secrets-in-environment")
def _(facts, token):
    """What the caller had in its environment, in our own and in that of every process in sight."""
    seen = [pathlib.Path("/proc/self/environ").read_bytes()]
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            seen.append(path.read_bytes())
    return "out" if any(b"open-sesame" in text for text in seen) else f"none in {len(seen)} environments"


@attack("ssh-keys")
def _(facts, token):
    """Homes of others, and what the machine keeps beside them."""
    places = {facts["secret_home"], "/root", "/var/spool", "/var/log", "/etc/shadow"} - {os.environ.get("HOME")}
    seen = [place for place in places if pathlib.Path(place).exists()]
    return "out" if seen else "ENOENT"
