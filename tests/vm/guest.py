"""Runs in the guest, as root: guest.py RESULTS SECONDS TEST… leaves summary.json and tests.xml in RESULTS. With --here first, on the host.
Tests that are not over in so many seconds are interrupted, and what was over by then is told.

In a guest it first makes it fit to run them: what Python is and does is read through a second mount of the host's root that caches (four
times as fast), there is a route, and /var/tmp is ext4, since before 6.3 neither tmpfs nor 9p can be id-mapped.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHED = Path("/run/cached")
LSMS = Path("/sys/kernel/security/lsm")
MOUNT_TAG = "cached"  # of the host's root, as kernels.py gives it to the emulator
MODULES = ("loop", "ext4", "overlay", "veth", "nf_tables", "nft_chain_nat", "dummy", "tun", "vsock", "binfmt_misc")
NETWORK = (  # nobody answers on it
    *("link set lo up", "link add net0 type dummy", "link set net0 up"),
    *("addr add 10.0.2.15/24 dev net0", "route add default dev net0"),
)
OPTIONS = ("-q", "-W", "ignore", "-p", "no:cacheprovider", "--durations=10")


def prepare() -> None:
    for module in MODULES:
        subprocess.run(["modprobe", "-q", module], check=False)  # some are built in
    CACHED.mkdir()
    how = "ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose"
    subprocess.run(["mount", "-t", "9p", "-o", how, MOUNT_TAG, CACHED], check=True)
    for place in dict.fromkeys(
        (Path("/usr"), Path(sys.base_prefix), *(ROOT / name for name in (".venv", "agent", "bpf", "policies", "tests")))
    ):
        subprocess.run(["mount", "--bind", CACHED / place.relative_to("/"), place], check=True)
    for words in NETWORK:
        subprocess.run(["ip", *words.split()], check=True)
    image = Path("/run/var-tmp")
    with image.open("wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, "/var/tmp"], check=True)
    Path("/var/tmp").chmod(0o1777)


def lsms() -> str:
    """The LSMs that the kernel was booted with. Where nobody mounted securityfs, it is, in a namespace of its own and for this alone."""
    script = f"[ -e {LSMS} ] || mount -t securityfs none {LSMS.parent}; cat {LSMS}"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main(results: Path, seconds: float, tests: list[str], *, here: bool) -> None:
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    if not here:
        prepare()
    ours = {"PYTHONPATH": str(ROOT / "agent"), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/root"}
    if not here:
        ours |= {"STOCKADE_VM": "guest", "STOCKADE_PATIENCE": "4"}
    environment = os.environ | ours
    doctor = subprocess.run([ROOT / ".venv/bin/stockade", "doctor", "-o", "json"], capture_output=True, env=environment, check=False)
    started = time.clock_gettime(time.CLOCK_BOOTTIME)
    pytest = [str(ROOT / ".venv/bin/pytest"), f"--junitxml={results / 'tests.xml'}", *tests]
    with (results / "pytest").open("w") as said:
        running = subprocess.Popen([*pytest, *OPTIONS], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            running.wait(seconds)
            over = True
        except subprocess.TimeoutExpired:
            over = False
            running.send_signal(signal.SIGINT)
            running.wait()
    summary = {
        "release": platform.release(),
        "lsm": lsms(),
        "host": here,
        "over": over,
        "findings": json.loads(doctor.stdout),
        "boot_seconds": 0.0 if here else round(began, 1),
        "test_seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME) - started, 1),
    }
    (results / "summary.json").write_text(json.dumps(summary, indent=2))


words = sys.argv[1:]
here = words[:1] == ["--here"]
main(Path(words[here]), float(words[here + 1]), words[here + 2 :], here=here)
