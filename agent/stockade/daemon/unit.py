"""The unit of the service, for systemd: made for the command that is asked for it, so that both are of one installation.

What it gives up, `systemd-analyze security` counts; what it keeps is said here, beside the line. A sandbox is born from the nursery, so
whatever is taken from the service is taken from every sandbox too: a filter on calls or on memory would be the agent's to explain.

The service must live in the machine's own mount namespace. What it pins lies on a file system that it mounts: in a namespace of its own
that would end with it, and with it the rules that hold its sandboxes while there is no daemon.
"""

from __future__ import annotations

import re
from pathlib import Path

CAPABILITIES = (  # and what for
    ("CAP_SYS_ADMIN", "namespaces, mounts, bpffs, cgroup programs"),
    ("CAP_BPF", "maps and programs"),
    ("CAP_PERFMON", "tracepoints, and reading kernel memory in programs"),
    ("CAP_NET_ADMIN", "lo of a sandbox, cgroup programs on sockets"),
    ("CAP_NET_BIND_SERVICE", "port 53 in a sandbox, and what `inbound` opens below 1024"),
    ("CAP_SYS_RESOURCE", "limits of a sandbox above the service's own"),
    ("CAP_SYS_PTRACE", "namespaces of processes it did not start: attach, and a sandbox that is taken over"),
    ("CAP_SETUID", "the sandbox's and the worker's users"),
    ("CAP_SETGID", "and groups"),
    ("CAP_SETPCAP", "giving up the rest for good"),
    ("CAP_KILL", "ending a sandbox, whoever it is"),
    ("CAP_CHOWN", "what a sandbox may write, mapped to its user"),
    ("CAP_FOWNER", "the same"),
    ("CAP_DAC_OVERRIDE", "reading binaries and policies, writing trails"),
    ("CAP_SYS_CHROOT", "the root of a sandbox"),
    ("CAP_AUDIT_READ", "what the machine's audit says of Landlock, where it is on; it sets nothing there"),
    ("CAP_MKNOD", "its safe devices"),
)

_PLAIN = re.compile(r"[A-Za-z0-9_./%$:@+,=-]+")


def text(command: str, settings: Path | None = None) -> str:
    """command: the path of `stockade`. settings: the file that it is to read, where that is not the usual one."""
    line = f"{_word(command)} daemon"
    if settings is not None:
        line += f" --settings {_word(str(settings)).replace('$', '$$')}"
    kept = " ".join(name for name, _ in CAPABILITIES)
    why = "\n".join(f"# {name}: {use}" for name, use in CAPABILITIES)
    return f"""\
[Unit]
Description=Stockade: holds agents to their policies
After=network-online.target local-fs.target
Wants=network-online.target
# However often it has to be started: its sandboxes have no egress until one stays.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
# No check before: whatever it would refuse the daemon refuses too, and sandboxes that wait for the next one have no egress meanwhile.
ExecStart={line}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
# The first start compiles what the kernel is given, and each takes over every sandbox that it finds, one after the other.
TimeoutStartSec=10min
# One that does not say in time that it turns is aborted. What it has in memory are keys: no core is written.
WatchdogSec=30
LimitCORE=0
# Sandboxes outlive the daemon: held, without egress, until the next one takes them over.
# One that does not end in time is killed, alone: what holds the sandboxes holds without it.
KillMode=process
TimeoutStopSec=20
LimitNOFILE=262144
TasksMax=infinity
Delegate=yes

# What it needs to make and hold sandboxes:
{why}
CapabilityBoundingSet={kept}
AmbientCapabilities=
# It shows files of the machine to sandboxes, as their users: so its own view must be the machine's. And what it mounts must outlive it.
# Each of these would give it a mount namespace of its own: ProtectSystem, ProtectHome, ProtectControlGroups, ProtectKernelTunables,
# ProtectKernelModules, ProtectKernelLogs, ProtectProc, ProcSubset, PrivateTmp, PrivateDevices, PrivateMounts, PrivateNetwork, PrivateIPC,
# RootDirectory, BindPaths and the like. The daemon does not serve with one of them, in a drop-in too. Modules and the clock are out of
# its reach all the same: no CAP_SYS_MODULE, CAP_SYSLOG or CAP_SYS_TIME above, no such call below.
# ProtectClock and DeviceAllow: with one device named, every other is refused, and the classifier's worker, which stays in the cgroup of
# the service, opens the nodes of a GPU.
# NoNewPrivileges, RestrictNamespaces, RestrictSUIDSGID, MemoryDenyWriteExecute, ProtectHostname: they would hold for what runs in a
# sandbox, and what may be done there its policy says.
LockPersonality=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @module @reboot @swap @obsolete @cpu-emulation
# Refused, as a sandbox's own filter does, and not killed for it: it holds for what runs in one too.
SystemCallErrorNumber=EPERM
KeyringMode=private
UMask=0022

[Install]
WantedBy=multi-user.target
"""


def _word(word: str) -> str:
    """As systemd splits a line (systemd.service(5)): `%` is its own everywhere, `$` behind the command."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return word if _PLAIN.fullmatch(word) else f'"{word}"'
