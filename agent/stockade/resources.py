"""Where the files that ship beside the code are: bpf/ and policies/, inside the installed package or at the top of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _directory(name: str) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parents[1] / name


BPF = _directory("bpf")
POLICIES = _directory("policies")
