"""Fixtures that build up: kernel → box (a cgroup it knows) → governed (with the network's programs) → networked (in a namespace)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kernel.box import PYTHON, Actor, Box, Ear
from kernel.dial import DIAL, NAME, Verdicts
from kernel.wire import Wire, laid
from stockade.kernel import bytecode
from stockade.kernel.abi import Network, SandboxFlag, Verdict
from stockade.kernel.load import Kernel, mounted_bpffs
from stockade.kernel.probe import Answer, kernel_findings
from stockade.sandbox import cgroup
from stockade.sandbox.cgroup import Cgroup
from stockade.sandbox.libc import umount


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.root)


@functools.cache
def _missing() -> str:
    """Every fatal finding of the product's own probe that is not `available`, in its own words."""
    found = [finding for finding in kernel_findings() if finding.fatal and finding.answer is not Answer.AVAILABLE]
    return "; ".join(f"{finding.name} is {finding.answer} ({finding.detail})" for finding in found)


@pytest.fixture(scope="session")
def probed() -> None:
    if missing := _missing():
        pytest.skip(missing)


@pytest.fixture(scope="session")
def pins(probed: None) -> Iterator[Path]:
    """A bpffs of the tests' own."""
    directory = Path(tempfile.mkdtemp(prefix="stockade-tests-", dir="/run"))
    bpffs = mounted_bpffs(directory / "bpf")
    yield bpffs
    umount(str(bpffs))  # and with it every pin
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def cgroups(probed: None) -> Iterator[Path]:
    """The parent of the tests' cgroups, on the v2 hierarchy and beside Stockade's own."""
    parent = cgroup.mounted() / f"stockade-tests-{os.getpid()}"
    parent.mkdir(exist_ok=True)  # a run of the same number that was killed may have left it
    yield parent
    with contextlib.suppress(FileNotFoundError):
        parent.rmdir()


@pytest.fixture(scope="session")
def kernel(pins: Path) -> Iterator[Kernel]:
    """One for the session: loading takes a second."""
    loaded = Kernel(Network(), pins / "session")
    loaded.attach_tracepoints()
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def ear(kernel: Kernel) -> Iterator[Ear]:
    ear = Ear(kernel)
    yield ear
    ear.ring.close()


@pytest.fixture
def box(kernel: Kernel, ear: Ear, cgroups: Path) -> Iterator[Box]:
    with Box(kernel, ear, cgroups) as made:
        yield made


@pytest.fixture
def lenient(kernel: Kernel, ear: Ear, cgroups: Path) -> Iterator[Box]:
    """`exec.unlisted: no-network`."""
    with Box(kernel, ear, cgroups, SandboxFlag.UNLISTED_RUNS) as made:
        yield made


@pytest.fixture
def tight(pins: Path, cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Box]]:
    """A box on a Kernel of its own whose maps have as few entries as the test says: tight(tasks=2)."""
    with ExitStack() as stack:

        @contextmanager
        def make(**entries: int) -> Iterator[Box]:
            whole = bytecode.compiled

            def small(defines: dict[str, int]) -> bytecode.Bytecode:
                code = whole(defines)
                shapes = [dataclasses.replace(m, max_entries=entries.get(m.name, m.max_entries)) for m in code.maps]
                assert set(entries) <= {shape.name for shape in shapes}
                return dataclasses.replace(code, maps=tuple(shapes))

            monkeypatch.setattr(bytecode, "compiled", small)
            loaded = Kernel(Network(), pins / "tight")
            monkeypatch.undo()
            try:
                loaded.attach_tracepoints()
                ear = Ear(loaded)
                with Box(loaded, ear, cgroups) as made:
                    yield made
                ear.ring.close()
            finally:
                loaded.close()

        yield lambda **entries: stack.enter_context(make(**entries))


@pytest.fixture
def bench(place: Path) -> Iterator[Path]:
    """A directory for a test's programs, on a file system that executes."""
    directory = Path(tempfile.mkdtemp(dir=place))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def touch(bench: Path) -> Path:
    """A program of our own: with an argument it leaves a file as evidence that it ran."""
    return Path(shutil.copy("/usr/bin/touch", bench / "touch"))


@pytest.fixture(scope="session")
def wire(kernel: Kernel, cgroups: Path) -> Iterator[Wire]:
    listeners = Cgroup(cgroups / "listeners")
    listeners.path.mkdir()
    kernel.answer_origins(listeners.path)
    with laid(listeners) as made:
        yield made
    listeners.remove()


@pytest.fixture
def governed(box: Box, wire: Wire) -> Iterator[Box]:
    """A box with every program attached, whose processes are in the wire's namespace."""
    box.netns = wire.netns
    box.govern()
    yield box
    wire.clear()


@pytest.fixture
def python(governed: Box) -> int:
    return governed.enrol(PYTHON)


@pytest.fixture
def inside(governed: Box, python: int) -> Actor:
    actor = governed.actor()
    actor(DIAL)
    governed.heard()
    return actor


@pytest.fixture
def verdict(governed: Box, python: int) -> Verdicts:
    def write(what: Verdict, port: int = 443, name: int = NAME, identity: int = python, generation: int = 1) -> None:
        governed.maps.set_verdict(governed.number, generation, identity, name, port, what)

    return write
