"""The system call filter of a running sandbox: what a policy changes in it, and that the programs agents use do not notice it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from framework.machine import STOCKADE, Machine
from framework.policy import whole
from stockade.sandbox.syscalls import KNOWN, NEEDED

SHELL = ["sh", "bash", "coreutils"]


@pytest.mark.client("/usr/bin/python3")
def test_a_policy_changes_what_may_be_called_and_the_record_says_so(machine: Machine, inside: dict[str, str]) -> None:
    names = ["io_setup", "mq_unlink", "socketpair", "unshare", "mount", "ptrace", "bpf", "io_uring_setup", "clone3", "memfd_create"]
    command = ["/usr/bin/python3", "calls.py", *names]
    boundary = dict.fromkeys(("unshare", "mount", "ptrace", "bpf", "io_uring_setup", "memfd_create"), errno.EPERM) | {
        "clone3": errno.ENOSYS
    }

    plain = machine.run(command, policy=whole(allow=["python3"]), files=inside)
    assert json.loads(plain.stdout) == boundary | {"io_setup": errno.EPERM, "mq_unlink": errno.EPERM, "socketpair": 0}, plain
    (started,) = plain.select(action="lifecycle", reason="started")
    assert (started["detail"]["seccomp_allow"], started["detail"]["seccomp_deny"]) == ([], [])

    seccomp = {"allow": ["io_setup", "mq_unlink"], "deny": ["socketpair"]}
    changed = machine.run(command, policy=whole(allow=["python3"], process={"seccomp": seccomp}), files=inside)
    assert json.loads(changed.stdout) == boundary | {"io_setup": 0, "mq_unlink": errno.ENOENT, "socketpair": errno.EPERM}, changed
    (started,) = changed.select(action="lifecycle", reason="started")
    assert (started["detail"]["seccomp_allow"], started["detail"]["seccomp_deny"]) == (seccomp["allow"], seccomp["deny"])


def test_a_policy_that_would_break_the_boundary_starts_nothing(machine: Machine) -> None:
    room = machine.room()
    policy = whole(allow=["sh"], process={"seccomp": {"allow": ["unshare"]}})
    result = machine.run(["sh", "-c", "touch ran"], policy=policy, room=room)
    assert result.status == 125, result
    assert "[syscall_never]" in result.stderr and "`unshare`" in result.stderr, result
    assert not (room / "work/ran").exists()


def test_a_program_starts_and_ends_with_what_cannot_be_denied(machine: Machine) -> None:
    """Everything that a policy may deny is denied: the sandbox's init, the loader and libc get along."""
    policy = whole(allow=["coreutils"], process={"seccomp": {"deny": sorted(KNOWN - NEEDED)}})
    result = machine.run(["echo", "still here"], policy=policy)
    assert (result.status, result.stdout) == (0, "still here\n"), result


JOBS = """
import asyncio, multiprocessing, sqlite3, threading
from multiprocessing import shared_memory

async def outside():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait() + await asyncio.to_thread(int)

if __name__ == "__main__":
    for start in ("fork", "spawn"):
        with multiprocessing.get_context(start).Pool(2) as pool:
            assert pool.map(abs, [-1, 2]) == [1, 2]
    multiprocessing.Semaphore(2).acquire()
    memory = shared_memory.SharedMemory(create=True, size=100)
    memory.close()
    memory.unlink()
    threads = [threading.Thread(target=int) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert asyncio.run(outside()) == 0
    database = sqlite3.connect("x.db")
    assert database.execute("pragma journal_mode=wal").fetchone() == ("wal",)
    print("ok")
"""

NODE = """
const fs = require("fs"), {Worker} = require("worker_threads"), os = require("os");
fs.writeFileSync("a.txt", "x"); fs.copyFileSync("a.txt", "b.txt"); fs.watch(".").close(); os.networkInterfaces();
require("net").createServer().listen(0, function () { this.close(); });
require("child_process").execSync("true");
new Worker("require('worker_threads').parentPort.postMessage('ok')", {eval: true}).on("message", console.log);
"""

ORDINARY = [
    pytest.param(["python3"], ["/usr/bin/python3", "jobs.py"], "ok", marks=pytest.mark.client("/usr/bin/python3"), id="python"),
    pytest.param(["node"], ["node", "jobs.js"], "ok", marks=pytest.mark.client("node"), id="node"),
    pytest.param(["npm", "node"], ["sh", "-c", "npm init -y >/dev/null && echo ok"], "ok", marks=pytest.mark.client("npm"), id="npm"),
    pytest.param(["java"], ["java", "-XX:+UseG1GC", "-version"], "", marks=pytest.mark.client("java"), id="java"),
    pytest.param(
        ["git"],
        [
            "sh",
            "-ec",
            "git init -q r; cd r; echo x > f; git add f; git -c user.name=n -c user.email=a@b commit -qm m; git gc -q; git log --format=%s",
        ],
        "m",
        marks=pytest.mark.client("git"),
        id="git",
    ),
    pytest.param(
        [], ["bash", "-c", "set -m; sleep 0.1 & jobs; fg; trap : WINCH; ulimit -a >/dev/null; cat <(echo ok)"], "ok", id="job control"
    ),
    pytest.param(
        ["tar", "gzip", "xz"], ["sh", "-c", "tar czf e.tgz /etc/apt && tar xpzf e.tgz && cp -a etc other && echo ok"], "ok", id="tar"
    ),
    pytest.param(
        ["ps", "less"], ["sh", "-c", "ps aux >/dev/null && echo ok | less"], "ok", marks=pytest.mark.client("less"), id="ps, less"
    ),
]


@pytest.mark.parametrize(("allow", "command", "says"), ORDINARY)
def test_programs_do_not_notice(machine: Machine, allow: list[str], command: list[str], says: str) -> None:
    policy = whole(allow=[*SHELL, *allow])
    result = machine.run(command, policy=policy, files={"jobs.py": JOBS, "jobs.js": NODE})
    assert result.status == 0, result
    assert says in result.stdout, result
    assert "not permitted" not in result.stderr, result


@pytest.mark.client("gcc", "make")
def test_compilers_do_not_notice_where_what_they_make_may_run(machine: Machine) -> None:
    files = {"m.c": "int main(void) { return 0; }\n", "Makefile": "m: m.c\n\tgcc -O2 -pipe -o m m.c -lpthread\n"}
    policy = whole(allow=["sh", "coreutils", "make"], exec={"writable": True, "unlisted": "no-network"})
    result = machine.run(["sh", "-c", "make -j2 && ./m && echo built"], policy=policy, files=files)
    assert result.status == 0 and "built" in result.stdout, result


@pytest.mark.client("/usr/bin/python3")
def test_a_virtual_environment_is_made(machine: Machine) -> None:
    policy = whole(allow=["sh", "coreutils", "python3"], exec={"writable": True, "unlisted": "no-network"})
    result = machine.run(["sh", "-c", "/usr/bin/python3 -m venv v && v/bin/pip --version"], policy=policy)
    assert result.status == 0 and result.stdout.startswith("pip "), result


@pytest.mark.client("strace")
def test_a_tracer_says_what_it_may_not(machine: Machine) -> None:
    result = machine.run(["strace", "true"], policy=whole(allow=["strace", "coreutils"]))
    assert result.status != 0, result
    assert "PTRACE_TRACEME: Operation not permitted" in result.stderr, result


@pytest.mark.client("runc", "/usr/bin/python3")
def test_a_container_runtime_takes_the_profile(tmp_path: Path, inside: dict[str, str]) -> None:
    """What was exported, loaded by runc, answers as the filter in a sandbox does. The machine's own root is the container's, read-only."""
    exported = subprocess.run([STOCKADE, "seccomp", "show", "--format", "oci"], check=True, capture_output=True, text=True)
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    names = [
        "getpid",
        "socketpair",
        "io_setup",
        "unshare",
        "mount",
        "ptrace",
        "bpf",
        "tiocsti",
        "packet",
        "memfd_create",
        "clone3",
        "newest",
    ]
    config["root"] = {"path": "root", "readonly": True}
    config["process"] |= {"terminal": False, "args": ["/usr/bin/python3", "-c", inside["calls.py"], *names]}
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    config["linux"]["seccomp"] = json.loads(exported.stdout)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "root").mkdir()
    script = f"mount --bind / {tmp_path}/root && exec runc run --bundle {tmp_path} stockade-{os.getpid()}"
    done = subprocess.run(["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused = dict.fromkeys(("io_setup", "unshare", "mount", "ptrace", "bpf", "tiocsti", "memfd_create"), errno.EPERM)
    answered = {"getpid": 0, "socketpair": 0, "packet": errno.EAFNOSUPPORT}
    assert json.loads(done.stdout) == refused | answered | dict.fromkeys(("clone3", "newest"), errno.ENOSYS)
