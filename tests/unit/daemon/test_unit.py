"""What the unit of the service says, line by line. What systemd makes of it, tests/e2e/test_daemon.py and tests/vm/test_service.py see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stockade.daemon.unit import text

# All by which a service gets a mount namespace of its own (systemd 252 to 257, exec_needs_mount_namespace; systemd.exec(5)).
GIVE_A_MOUNT_NAMESPACE = {
    *("RootDirectory", "RootImage", "RootEphemeral", "MountFlags", "MountAPIVFS", "MountImages", "ExtensionImages", "ExtensionDirectories"),
    *("BindPaths", "BindReadOnlyPaths", "BindLogSockets", "TemporaryFileSystem", "DynamicUser", "LogNamespace", "JoinsNamespaceOf"),
    *("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "ProtectSystem", "ProtectHome"),
    *("ProtectHostname", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc"),
    *("ProcSubset", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateNetwork", "PrivateIPC", "PrivateBPF", "PrivatePIDs"),
    *("PrivateUsers", "NetworkNamespacePath", "IPCNamespacePath", "LoadCredential", "LoadCredentialEncrypted", "SetCredential"),
    "ImportCredential",
}
# All by which devices beside the standard pseudo devices are refused (systemd.resource-control(5)); a GPU's nodes are.
IMPLY_A_DEVICE_POLICY = {"DeviceAllow", "DevicePolicy", "PrivateDevices", "ProtectClock", "RootImage", "MountImages", "ExtensionImages"}


@pytest.fixture(scope="module")
def service() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text("/usr/local/bin/stockade").partition("[Service]")[2].partition("[Install]")[0].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_no_line_gives_it_a_mount_namespace(service: dict[str, list[str]]) -> None:
    assert not service.keys() & GIVE_A_MOUNT_NAMESPACE


def test_no_line_refuses_the_nodes_of_a_gpu(service: dict[str, list[str]]) -> None:
    assert not service.keys() & IMPLY_A_DEVICE_POLICY


def test_what_those_lines_would_have_closed_is_closed(service: dict[str, list[str]]) -> None:
    kept = service["CapabilityBoundingSet"][0].split()
    assert kept and not {"CAP_SYS_MODULE", "CAP_SYSLOG", "CAP_SYS_TIME", "CAP_SYS_RAWIO"} & set(kept)
    refused = service["SystemCallFilter"][0]
    assert refused.startswith("~") and {"@module", "@clock"} <= set(refused[1:].split())
    assert service["SystemCallErrorNumber"] == ["EPERM"]  # what is done in a sandbox is refused there, and nobody killed


def test_one_that_hangs_is_killed_and_its_sandboxes_are_not(service: dict[str, list[str]]) -> None:
    assert service["KillMode"] == ["process"]
    assert "SendSIGKILL" not in service and 0 < int(service["TimeoutStopSec"][0]) <= 60


def test_it_is_started_however_often_it_ends_and_leaves_no_core() -> None:
    """What systemd makes of these lines, tests/vm/test_service.py sees."""
    head, _, rest = text("/usr/local/bin/stockade").partition("[Service]")
    assert "\nStartLimitIntervalSec=0\n" in head and "\nRestart=always\n" in rest and "\nLimitCORE=0\n" in rest


def test_nothing_runs_before_it(service: dict[str, list[str]]) -> None:
    """Sandboxes that wait for it have no egress."""
    assert "ExecStartPre" not in service and "ExecCondition" not in service


def test_the_settings_file_is_the_services_too(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("stockade")
    for name, written in (("own.yaml", "own.yaml"), ("a b%c$d.yaml", "a b%%c$$d.yaml"), ('a"b\\c.yaml', 'a\\"b\\\\c.yaml')):
        done = subprocess.run([command, "daemon", "--unit", "--settings", name], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        path = f"{tmp_path}/{written}"
        plain = f"ExecStart={command} daemon --settings {path}"
        quoted = f'ExecStart={command} daemon --settings "{path}"'
        assert done.returncode == 0 and (plain if name == written else quoted) in done.stdout.splitlines(), done
