"""What a machine has beside its kernel's BPF, found out by doing it: CHECKS, one visible list of a name, a probe, a hint.

A probe returns a word on what it found, or raises: StockadeError or OSError when it is missing, Untold when it cannot be told. A probe that
fails in any other way has not told either: a check that could not run is no pass, and no traceback.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stockade.kernel import denials
from stockade.kernel.probe import Answer, Finding
from stockade.sandbox import cgroup, landlock, libc, limits, seccomp, trust, view
from stockade.sandbox.filter import compile_filter
from stockade.service.settings import Settings
from stockade.settings import configured
from stockade.types import StockadeError

KERNEL = (5, 15)  # landlock(7) is in 5.13; what the programs of bpf/ need beside it came until 5.15
DISK = 256 * 2**20  # bytes: some hundred thousand records; with the disk full nothing is allowed any more
_OLDEST = 1_767_225_600  # 2026-01-01: a clock before that makes certificates that nobody takes
_MOUNTINFO = Path("/proc/self/mountinfo")
_UNSYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)

_PROXY = """
import os, sys
from stockade.proxy import confine, worker
if os.geteuid() == 0:
    confine.drop(int(sys.argv[1]), int(sys.argv[1]))
print(os.getuid(), end="")
"""
_CLASSIFIER = "from stockade.privacy import provider; print(provider.said(), end='')"
_PROVIDERS = "import onnxruntime; print(', '.join(onnxruntime.get_available_providers()), end='')"


class Untold(Exception):
    """What was asked can be neither affirmed nor denied; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """fatal: `stockade run` cannot do without it. hint: what to do where it is not available, if the probe knows nothing better. settled:
    the probe takes the settings that are asked about; None for the machine's own.
    """

    name: str
    probe: Callable[..., str]
    hint: str = ""
    fatal: bool = True
    settled: bool = False

    def run(self, settings: Settings | None = None) -> Finding:
        """The probe's answer. It never raises: a probe that breaks is an answer that could not be had."""
        try:
            return Finding(self.name, Answer.AVAILABLE, self.probe(settings) if self.settled else self.probe(), fatal=self.fatal)
        except Untold as reason:
            return self._finding(Answer.UNKNOWN, str(reason))
        except StockadeError as error:
            return self._finding(Answer.MISSING, error.message, error.hint)
        except OSError as error:
            forbidden = error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0
            return self._finding(Answer.UNKNOWN if forbidden else Answer.MISSING, error.strerror or str(error))
        except Exception as error:
            return self._finding(Answer.UNKNOWN, f"the probe failed: {error!r}")

    def _finding(self, answer: Answer, detail: str, hint: str = "") -> Finding:
        return Finding(self.name, answer, detail, hint or self.hint, self.fatal)


def findings(checks: tuple[Check, ...] | None = None, settings: Settings | None = None) -> list[Finding]:
    """One answer for each check, in order; none raises. settings: those asked about; None: the machine's own."""
    return [check.run(settings) for check in (CHECKS if checks is None else checks)]


# the probes


def _root() -> str:
    if os.geteuid() != 0:
        raise Untold(f"asked as uid {os.geteuid()}, who cannot try most of this")
    return ""


def _kernel() -> str:
    release = platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None:
        raise Untold(f"{release} is no number of a kernel")
    if (int(found[1]), int(found[2])) < KERNEL:
        raise OSError(f"{release} is older than {KERNEL[0]}.{KERNEL[1]}")
    return release


def _python() -> str:
    version, wanted = platform.python_version(), _installed("stockade").metadata["Requires-Python"]
    if not within(version, wanted):
        raise OSError(f"{version} is not {wanted}")
    return version


def _cgroup() -> str:
    """Made and removed, not only mounted."""
    root = cgroup.mounted()
    place = root / f"stockade-doctor-{os.getpid()}"
    place.mkdir()
    place.rmdir()
    return str(root)


def _limit(controller: str) -> str:
    found = limits.places().get(controller)
    if found is None:
        raise OSError("no mounted cgroup hierarchy has this controller")
    return found


def _landlock(version: int) -> str:
    if version > (here := landlock.abi()):
        raise OSError(f"ABI {here} is the newest here; this one adds {landlock.ADDS[version][1]}")
    return landlock.ADDS[version][1]


def _landlock_told() -> str:
    """Whether a refusal of Landlock would be told of, and by whom."""
    if landlock.abi() < 7:
        raise OSError("it tells of Landlock from ABI 7 on (Linux 6.15)")
    try:
        denials.Denials().close()
        on = denials.enabled()
    except PermissionError as error:
        raise Untold(f"{error.strerror}: to listen takes CAP_AUDIT_READ, to ask CAP_AUDIT_CONTROL") from None
    if not on:
        raise OSError("off on this machine: refusals are counted, and whether Landlock did it is not told")
    return "on: what Landlock refuses has records of reason landlock_refused"


def _libseccomp() -> str:
    return f"{len(compile_filter(seccomp.sandbox())) // 8} instructions"


def _filtered() -> str:
    """The sandbox's own filter, put on a child, which must then be refused a call outside of it."""
    confine = seccomp.confinement(seccomp.sandbox())

    def work() -> None:
        confine()
        try:
            os.unshare(libc.CLONE_NEWUSER)
        except PermissionError:
            return
        raise OSError(errno.ENOTSUP, "the filter was taken and refuses nothing")

    _in_child(work)
    return ""


def _namespace(flags: int) -> str:
    _in_child(lambda: os.unshare(flags))
    return ""


def _user_namespace() -> str:
    try:
        os.close(view.user_namespace((0, 0), 1))
    except OSError as error:
        if os.geteuid() != 0:
            raise Untold(error.strerror or str(error)) from None
        raise
    return ""


def _idmapped() -> str:
    """The directory that doctor is called in, bound with other owners in a mount namespace that ends with the child."""
    directory = str(view.no_links(Path.cwd()))
    owner = Path(directory).stat()
    with tempfile.TemporaryDirectory(prefix="stockade-doctor-") as target:
        resolved = str(Path(target).resolve())

        def work() -> None:
            os.unshare(libc.CLONE_NEWNS)
            libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
            user = view.user_namespace((owner.st_uid, owner.st_gid), Settings().first_sandbox_user)
            libc.bind(directory, resolved, 0, user)

        _in_child(work)
    return f"{directory} on {_file_system(Path(directory))}"


def _bundle() -> str:
    path = trust.system_bundle()
    if not (roots := path.read_bytes().count(b"BEGIN CERTIFICATE")):
        raise OSError(f"{path} holds no certificate")
    return f"{path}: {roots} roots"


def _tool(name: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin")
    if found is None:
        raise FileNotFoundError("not in the system's directories")
    return found


def _mitmproxy() -> str:
    """The release that pyproject.toml names, imported by a process that then drops to the worker's uid, as a worker does."""
    version = _installed("mitmproxy").version
    wanted = next(each for each in _installed("stockade").requires or () if each.startswith("mitmproxy"))
    if not within(version, wanted):
        raise OSError(f"{version} is not {wanted}")
    user = _python_says(_PROXY, str(Settings().proxy_user))
    if os.geteuid() != 0:
        raise Untold(f"{version} can be imported; whether a worker can drop afterwards is for root to try")
    return f"{version}, imported and then uid {user}"


def _installed(package: str) -> importlib.metadata.Distribution:
    """Raises OSError: it is not there; Untold: this user cannot look."""
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        place = sysconfig.get_path("purelib")
        if not os.access(place, os.R_OK | os.X_OK):
            raise Untold(f"uid {os.geteuid()} cannot read {place}") from None
        raise OSError("not installed") from None


def within(version: str, wanted: str) -> bool:
    """Whether a release is in a range as pyproject.toml writes it: `mitmproxy>=12.2.3,<13`. Raises ValueError when there is no bound."""

    def number(text: str) -> tuple[int, ...]:
        return tuple(map(int, re.findall(r"\d+", text)))

    bounds = re.findall(r"(>=|<)\s*([\d.]+)", wanted)
    if not bounds:
        raise ValueError(f"no range in {wanted!r}")
    return all((number(version) >= number(bound)) if sign == ">=" else (number(version) < number(bound)) for sign, bound in bounds)


def _clock() -> str:
    """Certificates and records carry its time; deadlines and the kernel's events that of the monotonic one."""
    if time.time() < _OLDEST:
        raise OSError(f"it is {time.strftime('%Y-%m-%d', time.gmtime())} here")
    wall, steady = time.time_ns(), time.monotonic_ns()
    time.sleep(0.01)
    wall, steady = time.time_ns() - wall, time.monotonic_ns() - steady
    if steady <= 0:
        raise OSError("the monotonic clock stands still")
    if abs(wall - steady) > 10**9:
        raise Untold("the clock was set while it was looked at")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _synchronised() -> str:
    """adjtimex(2) with no modes reads; anybody may."""
    timex = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    if state < 0:
        raise Untold(os.strerror(ctypes.get_errno()))
    if state == _UNSYNCHRONISED:
        raise Untold("nobody tells the kernel; a hypervisor may keep it all the same")
    return ""


def _disk(settings: Settings | None) -> str:
    place = existing((settings or Settings.of(configured(None))).log)
    state = os.statvfs(place)
    free = state.f_bavail * state.f_frsize
    said = f"{free // 2**20} MiB free at {place}"
    if free < DISK:
        raise OSError(said)
    return said


def _run_directory() -> str:
    place = existing(Settings().run)
    kind = _file_system(place)
    if kind not in ("tmpfs", "ramfs"):
        raise OSError(f"{place} is on {kind}")
    return f"{place} on {kind}"


def existing(path: Path) -> Path:
    """The directory, or the nearest above it that is there already."""
    return next(each for each in (path, *path.parents) if each.is_dir())


def _file_system(path: Path) -> str:
    """Its type: that of the last mounted of the longest mount points above it (proc(5))."""
    found = ("", "unknown")
    for line in _MOUNTINFO.read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, right.split()[0])
    return found[1]


def _gpu() -> str:
    nodes = sorted(Path("/dev").glob("nvidia[0-9]*"))
    if not nodes:
        raise FileNotFoundError("no /dev/nvidia0")
    for node in nodes:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC))
    return ", ".join(map(str, nodes))


def _onnxruntime() -> str:
    if importlib.util.find_spec("onnxruntime") is None:  # under whichever name it was packaged
        _installed("onnxruntime-gpu")
    return _python_says(_PROVIDERS)


def _classifier() -> str:
    """On what, and why on nothing faster."""
    return _python_says(_CLASSIFIER)


def _authority(settings: Settings | None) -> str:
    """The CA of the settings, by a signature that nobody is given."""
    ca = (settings.configured if settings is not None else configured(None)).ca
    if ca.certificate is None:
        return "each sandbox has a root of its own"
    if os.geteuid() != 0:
        raise Untold(f"{ca.certificate} is for root to try")
    from stockade.signing.external import Organisation
    from stockade.signing.names import Names

    organisation = Organisation.read(ca)
    organisation.sign("doctor", Names())
    return f"{organisation.chain[0].subject.rfc4514_string()}, its key in {organisation.described}"


def _python_says(code: str, *words: str) -> str:
    """What this Python prints in a process of its own. Raises OSError with the last line of its error."""
    said = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300, check=False)
    if said.returncode != 0:
        raise OSError((said.stderr.strip().splitlines() or [f"it ended with {said.returncode}"])[-1])
    return said.stdout


def _in_child(work: Callable[[], None]) -> None:
    """Do it in a process that then ends. Raises the OSError that it met."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(write, b"0 ")
        except OSError as error:
            os.write(write, f"{error.errno or errno.EIO} {error.strerror or error}".encode())
        except BaseException as error:
            os.write(write, f"{errno.EIO} {error!r}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        number, _, text = pipe.read().decode(errors="replace").partition(" ")
    os.waitpid(child, 0)
    if number != "0":
        raise OSError(int(number or errno.EIO), text or "the child that tried it died")


_LANDLOCK = f"Linux {landlock.FLOOR} or newer, booted with lsm=landlock,…; or `best_effort: [landlock]` in the policy"
_LIMITS = "a policy with this limit needs the controller in a mounted cgroup hierarchy, or `best_effort: [limits]`"
_NAMESPACES = "CONFIG_NAMESPACES with all of its kinds; inside a container, CAP_SYS_ADMIN"

CHECKS = (
    Check("root", _root, "sudo stockade doctor"),
    Check("kernel", _kernel, f"Linux {KERNEL[0]}.{KERNEL[1]} or newer"),
    Check("python", _python, "deploy/setup.sh installs one"),
    Check("cgroup v2", _cgroup, "mount -t cgroup2 none /sys/fs/cgroup; inside a container, mounted writable"),
    Check("CA bundle", _bundle, "apt-get install ca-certificates"),
    Check("libseccomp", _libseccomp, "apt-get install libseccomp2"),
    Check("seccomp filter", _filtered, "CONFIG_SECCOMP_FILTER=y"),
    Check("bpftool", functools.partial(_tool, "bpftool"), "apt-get install bpftool"),
    Check("mitmproxy", _mitmproxy, "pip install stockade brings the release that fits"),
    # What each ABI adds, and whether this kernel has it. Without the first a policy must say so in `best_effort`.
    *(
        Check(f"Landlock ABI {version} (Linux {kernel})", functools.partial(_landlock, version), _LANDLOCK, fatal=version == 1)
        for version, (kernel, _) in landlock.ADDS.items()
    ),
    Check(
        "Landlock in the machine's audit",
        _landlock_told,
        "auditctl -e 1 (apt-get install auditd), or audit=1 on the kernel's command line; docs/audit.md has what it costs",
        fatal=False,
    ),
    *(Check(f"limit on {name}", functools.partial(_limit, name), _LIMITS, fatal=False) for name in limits.CONTROLLERS),
    Check("mount namespaces", functools.partial(_namespace, libc.CLONE_NEWNS), _NAMESPACES),
    Check("PID namespaces", functools.partial(_namespace, libc.CLONE_NEWPID), _NAMESPACES),
    Check("network namespaces", functools.partial(_namespace, libc.CLONE_NEWNET), _NAMESPACES),
    Check("cgroup namespaces", functools.partial(_namespace, libc.CLONE_NEWCGROUP), _NAMESPACES),
    Check(
        "user namespaces",
        _user_namespace,
        "sysctl user.max_user_namespaces; a workdir of another user, and process.user as a number, need one",
        fatal=False,
    ),
    Check("id-mapped mounts", _idmapped, "a workdir on ext4, xfs, btrfs or tmpfs, or one that the sandbox's user owns", fatal=False),
    Check("clock", _clock, "set it: certificates would be too young or too old for every client"),
    Check(
        "clock synchronised",
        _synchronised,
        "timedatectl set-ntp true; otherwise the times in the trail are this machine's own",
        fatal=False,
    ),
    Check("disk for the audit", _disk, "room below /var/log/stockade, or --audit FILE elsewhere", fatal=False, settled=True),
    Check("run directory", _run_directory, "mount a tmpfs on /run: what a dead agent left there would outlive a boot", fatal=False),
    Check("GPU", _gpu, "needed only for `process: {devices: [nvidia]}` and for a classifier or models on one", fatal=False),
    Check("onnxruntime", _onnxruntime, "pip install 'stockade[router]', if prompts are to be classified", fatal=False),
    Check("classifier", _classifier, "docs/gpu.md, where it could run on a GPU", fatal=False),
    Check(
        "signing CA",
        _authority,
        "`ca` in the settings, /etc/stockade/stockade.yaml unless --settings says otherwise; docs/ca.md",
        settled=True,
    ),
)
