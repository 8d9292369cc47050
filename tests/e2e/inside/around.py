"""Runs inside: prints, as JSON, what a process finds around itself."""

import json
import os
import pathlib

WRITES = ("here", "/tmp/there", *(f"/{directory}/stockade-test" for directory in ("usr", "etc", "var", "proc", "dev", "dev/shm")))


def write(path):
    try:
        pathlib.Path(path).write_text("x")
        return "written"
    except OSError as error:
        return error.strerror


status = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
print(
    json.dumps(
        {
            "uid": os.getuid(),
            "gid": os.getgid(),
            "groups": os.getgroups(),
            "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
            "no_new_privs": status["NoNewPrivs"],
            "seccomp": status["Seccomp"],
            "devices": sorted(line.split(":")[0].strip() for line in pathlib.Path("/proc/net/dev").read_text().splitlines()[2:]),
            "environment": dict(os.environ),
            "certificates": {
                name: pathlib.Path(path).read_text()
                for name, path in os.environ.items()
                if path.startswith("/") and path.endswith((".crt", ".pem"))
            },
            "processes": len(list(pathlib.Path("/proc").glob("[0-9]*"))),
            "cgroups": [str(path) for path in pathlib.Path("/sys/fs/cgroup").glob("*")],
            "writes": {path: write(path) for path in WRITES},
            "seen": {path: os.access(path, os.R_OK) for path in ("/root", "/etc/shadow", "/var/run/docker.sock", "/var/cache/stockade")},
        }
    )
)
