"""The unit of the service, for systemd: made for the command that is asked for it, so that both are of one installation.

What it gives up, `systemd-analyze security` counts; what it keeps is said here, beside the line. A sandbox is born from the nursery, so
whatever is taken from the service is taken from every sandbox too: a filter on calls or on memory would be the agent's to explain.
"""

from __future__ import annotations

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
    ("CAP_MKNOD", "its safe devices"),
)


def text(command: str) -> str:
    """command: the path of `stockade`."""
    kept = " ".join(name for name, _ in CAPABILITIES)
    why = "\n".join(f"# {name}: {use}" for name, use in CAPABILITIES)
    return f"""\
[Unit]
Description=Stockade: holds agents to their policies
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStartPre={command} daemon --check
ExecStart={command} daemon
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1
WatchdogSec=30
# Sandboxes outlive the daemon: held, without egress, until the next one takes them over.
KillMode=process
SendSIGKILL=no
TimeoutStopSec=20
LimitNOFILE=262144
TasksMax=infinity
Delegate=yes

# What it needs to make and hold sandboxes:
{why}
CapabilityBoundingSet={kept}
AmbientCapabilities=
# It shows files of the machine to sandboxes, as their users: so its own view must be the machine's. No ProtectHome, ProtectSystem,
# PrivateTmp, PrivateDevices, ProtectControlGroups, RestrictNamespaces, MountFlags: each would change what every sandbox is made of.
ProtectClock=yes
ProtectHostname=no
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @module @reboot @swap @obsolete @cpu-emulation
KeyringMode=private
UMask=0022

[Install]
WantedBy=multi-user.target
"""
