"""The launcher: a child forked before the agent holds any key. It makes the namespaces, opens the agent's sockets in them, and at last
becomes the sandbox. Two messages from the agent (where to listen, then the Plan), two back (sockets, then the PID of the sandbox's init);
what fails after that, init says itself.

    launcher      root; in the listeners' cgroup, so that its sockets answer ORIGIN; ends when the sandbox's view is built
    └── init      PID 1 of the sandbox: reaps, forwards signals, ends with the command's status; no capability, no ptrace, not dumpable
        └── CMD
"""

from __future__ import annotations

import array
import contextlib
import dataclasses
import errno
import fcntl
import gc
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import termios
import traceback
from typing import NamedTuple, NoReturn

from stockade.kernel.abi import Network
from stockade.sandbox import landlock, libc, loopback, view
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.plan import Plan
from stockade.types import StockadeError

_NETWORK_NAMESPACE_FAMILIES = (socket.AF_INET, socket.AF_INET6)
COULD_NOT_RUN, NOT_FOUND = 126, 127
_FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT),
)


class Sockets(NamedTuple):
    """Made inside the sandbox's network namespace, on the agent's own addresses. TCP sockets listen."""

    inspect4: socket.socket
    inspect6: socket.socket
    relay4: socket.socket
    relay6: socket.socket
    resolve_tcp4: socket.socket
    resolve_tcp6: socket.socket
    resolve_udp4: socket.socket
    resolve_udp6: socket.socket


class Launcher:
    """The agent's end. Methods raise StockadeError with the launcher's own words when a step fails."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self._channel = pid, channel
        self._over = False

    @classmethod
    def fork(cls, stdio: tuple[int, int, int] = (0, 1, 2)) -> Launcher:
        """Fork now, before there are keys, threads or a loop. stdio: what becomes 0, 1 and 2 of the sandbox."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            ours.close()
            serve(theirs, stdio)
        theirs.close()
        return cls(pid, ours)

    def open_network(self, network: Network) -> Sockets:
        """A network namespace with only lo, and our sockets in it. Raises StockadeError."""
        _send(self._channel, network)
        _receive(self._channel, "network namespace")
        data, descriptors, _, _ = socket.recv_fds(self._channel, 1, len(Sockets._fields))
        if not data or len(descriptors) != len(Sockets._fields):
            raise StockadeError("the launcher ended before it gave its sockets", code="launch")
        return Sockets(*(socket.socket(fileno=fd) for fd in descriptors))

    def start(self, plan: Plan) -> int:
        """Become the sandbox and exec the command. Returns the PID of the sandbox's init, a child of this process (a subreaper)."""
        _send(self._channel, dataclasses.replace(plan, files={}))
        _send_files(self._channel, plan.files)
        pid = int(str(_receive(self._channel, "sandbox")))
        os.waitpid(self.pid, 0)
        self._over = True
        failure = b""
        while part := self._channel.recv(512):
            failure += part
        self._channel.close()
        if failure:
            os.waitpid(pid, 0)
            raise StockadeError(f"cannot make the sandbox: {failure.decode(errors='replace')}", code="launch")
        return pid

    def abandon(self) -> None:
        """It is killed, unless it has become the sandbox. May be called twice."""
        if not self._over:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self._over = True
        self._channel.close()


def listen_again(init: int, network: Network, listeners: Cgroup) -> Sockets:
    """The agent's sockets once more, in the network namespace of a sandbox that runs: those of its first agent died with that.

    init: a pidfd. listeners: the cgroup in which sockets answer ORIGIN. Forks: call it before there are keys, threads or a loop. Raises
    StockadeError with the child's own words.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        listen_inside(theirs, init, network, listeners)
    theirs.close()
    try:
        return sockets_of(ours)
    finally:
        os.waitpid(pid, 0)


def listen_inside(channel: socket.socket, init: int, network: Network, listeners: Cgroup | None) -> NoReturn:
    """The whole life of a process that opens them. listeners None: it was born there."""
    try:
        if listeners is not None:
            listeners.add(os.getpid())
        os.setns(init, libc.CLONE_NEWNET)
        _hand(channel, _listening(network))
    except BaseException as error:
        channel.sendall(str(error).encode()[:500] or b"?")
    os._exit(0)


def sockets_of(channel: socket.socket) -> Sockets:
    """What such a process says, and closes the channel to it. Raises StockadeError."""
    with channel:
        data, descriptors, _, _ = socket.recv_fds(channel, 512, len(Sockets._fields))
    if len(descriptors) != len(Sockets._fields):
        raise StockadeError(f"cannot listen in the sandbox again: {data.decode(errors='replace')}", code="launch")
    return Sockets(*(socket.socket(fileno=fd) for fd in descriptors))


def _hand(channel: socket.socket, sockets: list[socket.socket]) -> None:
    raw = array.array("i", [s.fileno() for s in sockets])
    channel.sendmsg([b"1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, raw)])


# The channel carries pickles: both ends are the same process image, and the launcher speaks before anything of the sandbox runs.


def _send(channel: socket.socket, message: object) -> None:
    data = pickle.dumps(message)
    channel.sendall(struct.pack("<I", len(data)) + data)


def _read(channel: socket.socket, size: int) -> bytes:
    data = channel.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise EOFError
    return data


def _message(channel: socket.socket) -> object:
    message: object = pickle.loads(_read(channel, *struct.unpack("<I", _read(channel, 4))))  # noqa: S301
    return message


def _send_files(channel: socket.socket, files: dict[str, bytes]) -> None:
    """Beside the Plan, not in it: to pickle half a megabyte and back takes a millisecond."""
    _send(channel, [(path, len(content)) for path, content in files.items()])
    for content in files.values():
        channel.sendall(content)


def _files(channel: socket.socket) -> dict[str, bytes]:
    sizes = _message(channel)
    assert isinstance(sizes, list)
    return {path: _read(channel, size) for path, size in sizes}


def _receive(channel: socket.socket, what: str) -> object:
    try:
        message = _message(channel)
    except (EOFError, ConnectionError):
        raise StockadeError(f"the launcher ended while it made the {what}", code="launch") from None
    if isinstance(message, Exception):
        hint = getattr(message, "hint", "")
        raise StockadeError(f"cannot make the {what}: {message}", hint=hint, code="launch") from None
    return message


def serve(channel: socket.socket, stdio: tuple[int, int, int]) -> NoReturn:
    """The launcher's whole life, from just after the fork. channel: to whoever holds the Launcher."""
    for number, given in enumerate(stdio):
        if given != number:
            os.dup2(given, number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; what becomes of it is the agent's to say
    try:
        gc.disable()  # it would touch, and so copy, every page that was inherited
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        os.umask(0o022)
        network = _message(channel)
        assert isinstance(network, Network)
        sockets = _network_namespace(network)
        _send(channel, "ok")
        _hand(channel, sockets)
        for listening in sockets:
            listening.close()
        libc.set_title("stockade-init")
        plan = _message(channel)
        assert isinstance(plan, Plan)
        _become(dataclasses.replace(plan, files=_files(channel)), channel)
        os._exit(0)
    except EOFError:
        os._exit(1)
    except BaseException as error:  # every failure is the agent's to report
        with contextlib.suppress(Exception):
            said = error if isinstance(error, StockadeError) else OSError(str(error) or type(error).__name__)
            _send(channel, said)
        os._exit(1)


def _network_namespace(network: Network) -> list[socket.socket]:
    os.unshare(libc.CLONE_NEWNET | libc.CLONE_NEWIPC | libc.CLONE_NEWUTS)
    with contextlib.suppress(FileNotFoundError):  # a host without IPv6 has no such file; the address is refused below, which says so
        switch = os.open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(switch, b"0")
        finally:
            os.close(switch)
    loopback.bring_up(network)
    return _listening(network)


def _listening(network: Network) -> list[socket.socket]:
    sockets = []
    for port in (network.inspect_port, network.relay_port, 53):
        for family in _NETWORK_NAMESPACE_FAMILIES:
            # IPPROTO_TCP by name: asyncio sets TCP_NODELAY only on sockets that say so
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            _bind(listening, family, network, port)
            listening.listen(4096)
            sockets.append(listening)
    for family in _NETWORK_NAMESPACE_FAMILIES:
        datagram = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        datagram.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        _bind(datagram, family, network, 53)
        sockets.append(datagram)
    return sockets


def _bind(unbound: socket.socket, family: int, network: Network, port: int) -> None:
    """To the agent's own address. SO_REUSEPORT, and SO_REUSEADDR of datagrams, would let a sandbox process take a share: neither is set.

    SO_REUSEADDR of TCP lets nobody beside a listener. It is for the agent that comes after this one, when connections of this one are still
    in the kernel's tables: tcp_v4 asks it of both, whose socket is left and who binds (inet_bind_conflict).
    """
    if unbound.type == socket.SOCK_STREAM:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    unbound.bind((str(network.agent6 if family == socket.AF_INET6 else network.agent4), port))


def _become(plan: Plan, channel: socket.socket) -> None:
    """Everything that needs root, in the order in which each step still can be done. Tells the agent the PID of init, seen from outside.

    Init is born before its view is built. Meanwhile it joins its cgroups, each of which takes as long as all the mounts, and does what
    needs no view. From then on this process is in nobody's way: it ends while init goes on.
    """
    own = os.open(plan.cgroup, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    joining = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in plan.joins]
    people = view.user_namespace((plan.identity, plan.identity), plan.user) if plan.identity is not None else None
    os.unshare(libc.CLONE_NEWNS | libc.CLONE_NEWPID)
    built_read, built_write = os.pipe()
    pid = libc.fork_into(own)
    if pid == 0:
        os.close(built_write)
        plan.files.clear()  # the launcher writes them: here half a megabyte would stay for as long as the sandbox
        try:
            _join(joining)
            _init(plan, people, built_read, channel)
        except BaseException:
            os.read(built_read, 1)  # the launcher speaks first
            os.write(channel.fileno(), traceback.format_exc(limit=-1).strip().splitlines()[-1].encode()[:500])
        os._exit(125)
    os.close(built_read)
    try:
        view.build(plan)  # init's root and working directory move with it: pivot_root(2)
        libc.set_hostname(plan.name)
        _send(channel, pid)
    except BaseException:
        os.close(built_write)
        os.waitpid(pid, 0)
        raise
    with contextlib.suppress(BrokenPipeError):  # somebody killed init: the agent, who knows it, learns so from its end
        os.write(built_write, b"1")


def _join(cgroups: list[int]) -> None:
    """Enter those of other hierarchies, and see nothing above any: init is the first process that their limits count."""
    for procs in cgroups:
        os.write(procs, b"0")
        os.close(procs)
    os.unshare(libc.CLONE_NEWCGROUP)


def _init(plan: Plan, people: int | None, built: int, channel: socket.socket) -> NoReturn:
    """PID 1 of the sandbox. It stays, without rights, to reap orphans and pass on signals and the command's status.

    people: the user namespace to be somebody else in. built: can be read once the view is there, and ends when it will not be. channel: to
    the agent, which takes its end for the command's beginning. Landlock holds init as well: in a domain outside its own the command could
    not signal it, and what runs beside init is no more than init.
    """
    if plan.apart:
        _begin_session()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc.drop_bounding_capabilities()
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    granted = list(landlock.grants(plan))
    if not os.read(built, 1):
        os._exit(125)  # the launcher says why
    libc.mount("proc", "/proc", "proc", libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    ruleset = landlock.rules(granted, plan.landlock) if plan.landlock else None
    _give_up_root(plan, people)
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
    os.chdir(plan.workdir)
    if ruleset is not None:
        landlock.restrict(ruleset, plan.landlock)
    libc.apply_seccomp(plan.seccomp)
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, signal.SIGCHLD))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    libc.close_on_exec_from(3)
    command = _spawn(plan, channel)
    libc.close_from(3)  # the agent's channel is one
    libc.give_back()
    while True:
        told = signal.sigwaitinfo((*_FORWARDED, signal.SIGCHLD))
        if told.si_signo != signal.SIGCHLD:
            if told.si_code <= 0:  # somebody's kill(2); what the terminal sends, the whole foreground group has got already
                with contextlib.suppress(ProcessLookupError):
                    os.kill(command, told.si_signo)
            continue
        with contextlib.suppress(ChildProcessError):
            while (reaped := os.waitpid(-1, os.WNOHANG))[0]:
                if reaped[0] == command:
                    status = reaped[1]
                    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _begin_session() -> None:
    """With the terminal among the standard streams, if one is, as its own: keys make signals, and its closing hangs up."""
    os.setsid()
    for stream in range(3):
        if os.isatty(stream):
            fcntl.ioctl(stream, termios.TIOCSCTTY, 0)
            return


def _give_up_root(plan: Plan, people: int | None) -> None:
    """The bounding and ambient sets of capabilities are empty by now."""
    os.setgroups(sorted({node.group for node in plan.devices if node.group is not None}))
    user = plan.user
    if people is not None and plan.identity is not None:
        os.setns(people, libc.CLONE_NEWUSER)
        os.close(people)
        libc.drop_bounding_capabilities()  # entering gave them all back, in there
        user = plan.identity
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    libc.drop_capabilities()  # changing the uid took them only where the old one was root's and the new one is not
    if plan.processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (plan.processes, plan.processes))


def _spawn(plan: Plan, channel: socket.socket) -> int:
    """Start the command; its PID. Ends init with the status of a shell when it cannot be.

    posix_spawn shares init's memory until the exec: a fork would copy the page tables of a Python first, and touch hundreds of its pages.
    """
    status, said = NOT_FOUND, "not found in the sandbox"
    for path in _candidates(plan.argv[0], plan.environment.get("PATH", os.defpath)):
        if not os.path.lexists(path):  # a vfork says the same, and takes as long as a hundred of these
            continue
        try:
            return os.posix_spawn(
                path,
                plan.argv,
                plan.environment,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores these; a program expects the default
            )
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            status, said = COULD_NOT_RUN, str(error.strerror)
            if plan.noexec and error.errno == errno.EACCES:  # EPERM is the policy's answer by LSM, and said by the agent
                said += "\n  hint: nothing that is writable inside can be executed, unless the policy says `exec: {writable: true}`"
            if error.errno != errno.EACCES:
                break
    channel.close()
    sys.stderr.write(f"stockade: {plan.argv[0]}: {said}\n")
    sys.stderr.flush()
    os._exit(status)


def _candidates(name: str, path: str) -> list[str]:
    """Where execvp(3) would look. One that is there and cannot be executed does not end the search."""
    return [name] if "/" in name else [f"{directory or '.'}/{name}" for directory in path.split(":")]
