"""A whole Debian 13 on a disk, as a box of Vagrant's is one, and vagrant/provision.sh in it: its packages, its systemd, its GRUB; and in
that, Stockade as a service.

What takes too long under emulation is done before in a chroot, at this machine's speed and by the same script: packages.
The rest happens in the machine, which is booted twice by its own boot loader:

    chroot   provision.sh packages            apt and pip, as in a new box
    boot 1   provision.sh prepare, twice      finds them in place; puts `bpf` among the LSMs, once; then `reboot`
    boot 2   provision.sh prepare, check      BPF LSM is on; doctor, and tests that it is given
             service.py                       the release as a service of that systemd's, installed in the chroot by install.sh --service

The box starts without BPF LSM, as an administrator may have set it (Debian's kernels have it in their default list).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vm.kernels import ROOT, VM

CHECKOUT = "home/vagrant/stockade"
TESTS = ("tests/kernel/test_lsm.py",)
WITHOUT = "landlock,lockdown,yama,apparmor"
_BOX = VM / "debian13"
_PACKAGES = (  # of a box, and what TESTS use
    *("systemd-sysv", "udev", "kmod", "linux-image-amd64", "grub-pc", "ca-certificates", "sudo", "procps", "iproute2"),
    *("make", "gcc", "libc6-dev"),
)
_PLATFORMS = (*(f"manylinux_2_{minor}" for minor in range(41, 4, -1)), "manylinux2014", "manylinux1")  # of glibc 2.41
_DRIVE = f"""#!/bin/sh
# What Vagrant does, by a unit: prepare, reboot, prepare, check. Each step's output and status stay in /var/results.
export PYTHONDONTWRITEBYTECODE=1 STOCKADE_PATIENCE=4 STOCKADE_VM=guest PIP_NO_INDEX=1
step() {{
    name=$1; shift
    "$@" >/var/results/$name 2>&1
    echo $? >/var/results/$name.status
    echo "drive: $name: $(cat /var/results/$name.status)" >/dev/console
}}
provision=/{CHECKOUT}/vagrant/provision.sh
mkdir -p /var/results
if [ ! -e /var/results/prepare ]; then
    step before cat /sys/kernel/security/lsm
    step prepare $provision prepare
    sha256sum /boot/grub/grub.cfg /etc/default/grub.d/* >/var/results/first
    step again $provision prepare
    sha256sum /boot/grub/grub.cfg /etc/default/grub.d/* >/var/results/second
    sync; systemctl reboot
else
    step after cat /sys/kernel/security/lsm
    step line cat /proc/cmdline
    step third $provision prepare
    step check $provision check {" ".join(TESTS)} -q -p no:cacheprovider
    step service python3 /{CHECKOUT}/tests/vm/service.py /{CHECKOUT} /opt/stockade /usr/local/bin/stockade /var/results/service.json
    sync; systemctl poweroff
fi
"""
_MAKE = "import sys; sys.path.insert(0, sys.argv[1]); from vm import debian13; debian13.make(*map(debian13.Path, sys.argv[2:]))"
_UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/drive
TimeoutStartSec=infinity
[Install]
WantedBy=graphical.target
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One command in the box: its exit status, and what it said on both channels."""

    status: int
    said: str


def missing() -> str | None:
    """Why no box can be made or booted here."""
    for command in ("mmdebstrap", "qemu-system-x86_64", "mkfs.ext4", "debugfs", "losetup"):
        if not shutil.which(command):
            return f"no {command} (deploy/setup.sh --kernels)"
    return None


def base() -> Path:
    """The box before the script, as a tarball that is made once: rm -r .vm/debian13 for newer packages."""
    made = _BOX / "base.tar"
    if not made.exists():
        _BOX.mkdir(exist_ok=True)
        part = _BOX / "part.tar"
        words = ["mmdebstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", '--aptopt=Apt::Install-Recommends "false"']
        _run(*words, "trixie", part)
        part.rename(made)
    return made


def wheels() -> Path:
    """What pip would fetch in the box, for Debian 13's Python: fetched here by this machine's pip, and so from where it is set up for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *(wanted for extra in project["project"]["optional-dependencies"].values() for wanted in extra),
        *project["build-system"]["requires"],
    ]
    made, text = _BOX / "wheels", "\n".join([*wanted, "wheel", ""])
    listed = made / "requirements"
    if not listed.exists() or listed.read_text() != text:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        (made / "part").write_text(text)
        words = [
            ROOT / ".venv/bin/python",
            "-m",
            "pip",
            "download",
            "-q",
            "--only-binary=:all:",
            "--python-version=3.13",
            "--implementation=cp",
        ]
        _run(*words, *(f"--platform={name}_x86_64" for name in _PLATFORMS), "-d", made, "-r", made / "part")
        (made / "part").rename(listed)
    return made


def disk() -> Path:
    """The box on a disk with GRUB, the checkout in it and its packages installed by the script; booting it runs the rest of it.

    Made in a mount namespace of its own: one that another process makes meanwhile would keep the mounted disk in use.
    """
    image = _BOX / "disk"
    _run("unshare", "--mount", "--propagation", "private", sys.executable, "-c", _MAKE, ROOT / "tests", base(), wheels(), image)
    return image


def make(tarball: Path, fetched: Path, image: Path) -> None:
    """What disk() does, once it is alone."""
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(8 << 30)
    _run("mkfs.ext4", "-q", "-L", "box", image)
    with _mounted(image) as (device, root):
        _run("tar", "-xf", tarball, "-C", root)
        (root / "etc/fstab").write_text("LABEL=box / ext4 rw 0 1\n")
        (root / "etc/hostname").write_text("stockade\n")
        _grub(device, root)
        _checkout(root)
        with _chroot(device, root):
            _offline(root, fetched, f"/{CHECKOUT}/vagrant/provision.sh", "packages")
            _service(root, fetched)
        _drive(root)


def boot(image: Path, seconds: float) -> dict[str, Step]:
    """Both boots, by the box's own GRUB, until it is off; each step by its name. Raises TimeoutExpired."""
    console = _BOX / "console"
    words: list[object] = [
        "nice",
        "qemu-system-x86_64",
        "-machine",
        "q35,accel=tcg",
        "-cpu",
        "max",
        "-smp",
        2,
        "-m",
        "3G",
        "-display",
        "none",
    ]
    words += ["-nic", "none", "-drive", f"file={image},format=raw,if=virtio,cache=unsafe", "-serial", f"file:{console}", "-monitor", "none"]
    subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, timeout=seconds, check=True)
    with tempfile.TemporaryDirectory() as directory:
        _run("debugfs", "-R", f"rdump /var/results {directory}", image)
        left = Path(directory, "results")
        steps = {path.stem: Step(int(path.read_text()), path.with_suffix("").read_text()) for path in left.glob("*.status")}
        return steps | {name: Step(0, (left / name).read_text()) for name in ("first", "second", "service.json") if (left / name).exists()}


def console() -> str:
    """The end of what the box wrote to its serial line."""
    return "\n".join((_BOX / "console").read_text(errors="replace").splitlines()[-30:])


def _checkout(root: Path) -> None:
    """This tree, as far as git knows of it or would."""
    checkout = root / CHECKOUT
    checkout.mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    names = b"\0".join(name for name in listed.split(b"\0") if name and os.path.lexists(ROOT / os.fsdecode(name)))
    subprocess.run(["tar", "-C", ROOT, "--null", "-T", "-", "-cf", checkout / "tar"], input=names, check=True)
    _run("tar", "-xf", checkout / "tar", "-C", checkout)
    (checkout / "tar").unlink()


def _offline(root: Path, fetched: Path, *words: object) -> None:
    """In the chroot, with what pip would fetch."""
    (root / "wheels").mkdir(exist_ok=True)
    _run("mount", "--bind", "-o", "ro", fetched, root / "wheels")
    try:
        without = ["env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels", "PIP_NO_CACHE_DIR=1", "PIP_CONFIG_FILE=/dev/null"]
        _run("chroot", root, *without, *words)
    finally:
        _run("umount", root / "wheels")


def _service(root: Path, fetched: Path) -> None:
    """The release, installed as one installs it in an image: the unit is there, and systemd, which is not, starts nothing."""
    release = root / "var/release"
    _run(ROOT / "deploy/release.sh", release)
    _offline(root, fetched, "bash", "/var/release/install.sh", "--from", "/var/release", "--service")


def _drive(root: Path) -> None:
    drive = root / "usr/local/sbin/drive"
    drive.write_text(_DRIVE)
    drive.chmod(0o755)
    (root / "etc/systemd/system/drive.service").write_text(_UNIT)
    wanted = root / "etc/systemd/system/graphical.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / "drive.service").symlink_to("../drive.service")


def _grub(device: str, root: Path) -> None:
    """On the disk itself: there is no partition, which GRUB only wants to be told is meant."""
    settings = root / "etc/default/grub.d"
    settings.mkdir(exist_ok=True)
    (settings / "50-box.cfg").write_text(
        f'GRUB_TIMEOUT=0\nGRUB_TERMINAL=console\nGRUB_CMDLINE_LINUX="console=ttyS0 lsm={WITHOUT}"\nGRUB_CMDLINE_LINUX_DEFAULT=\n'
    )
    with _chroot(device, root):
        _run("chroot", root, "grub-install", "--target=i386-pc", "--force", "/dev/vda")
        _run("chroot", root, "update-grub")
    written = (root / "boot/grub/grub.cfg").read_text()
    assert f"lsm={WITHOUT}" in written, written


@contextmanager
def _mounted(image: Path) -> Iterator[tuple[str, Path]]:
    """A loop device of the image, and where it is mounted.

    As /dev/vda, which is what the box will see: GRUB's tools make no entry for a system on a loop device, and take the name from mountinfo.
    So it is mounted in a root whose /dev has that one node.
    """
    outer = _BOX / "outer"
    for name in ("dev", "root"):
        (outer / name).mkdir(parents=True, exist_ok=True)
    device = subprocess.run(["losetup", "-f", "--show", image], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    node = outer / "dev/vda"
    libc = ctypes.CDLL(None, use_errno=True)

    try:
        os.mknod(node, 0o600 | stat.S_IFBLK, Path(device).stat().st_rdev)
        forked = os.fork()
        if forked == 0:
            with suppress(OSError):
                os.chroot(outer)
                os._exit(libc.mount(b"/dev/vda", b"/root", b"ext4", 0, None) and 1)
            os._exit(1)
        if os.waitpid(forked, 0)[1]:
            raise RuntimeError(f"{image} cannot be mounted")
        try:
            yield device, outer / "root"
        finally:
            _run("umount", outer / "root")
    finally:
        node.unlink(missing_ok=True)
        _run("losetup", "-d", device)


@contextmanager
def _chroot(device: str, root: Path) -> Iterator[None]:
    """With this machine's processes and its way to names; no securityfs, since the kernel is not the box's."""
    with ExitStack() as mounts:

        def mounted(place: str, *words: object) -> None:
            _run("mount", *words, root / place)
            mounts.callback(_run, "umount", root / place)

        mounted("dev", "-t", "tmpfs", "none")
        for name, number in (("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9))):
            os.mknod(root / "dev" / name, stat.S_IFCHR, os.makedev(*number))
            (root / "dev" / name).chmod(0o666)
        os.mknod(root / "dev/vda", 0o600 | stat.S_IFBLK, Path(device).stat().st_rdev)
        (root / "dev/fd").symlink_to("/proc/self/fd")
        mounted("proc", "--bind", "/proc")
        for name in ("etc/resolv.conf", "etc/hosts"):
            (root / name).touch()
            mounted(name, "--bind", Path("/", name))
        yield


def _run(*words: object) -> None:
    """Raises CalledProcessError; what it said goes to the test's own output."""
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL)
