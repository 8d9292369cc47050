"""bpf/include/abi.h and stockade/kernel/abi.py are one contract written twice: a change of either alone fails here."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Any

import pytest

from stockade import resources
from stockade.kernel import abi, refusals

HEADER = (resources.BPF / "include/abi.h").read_text()
MAPS = (resources.BPF / "include/maps.h").read_text()
COMMENTS = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)

SCALARS = {"__u8": 1, "char": 1, "__u16": 2, "__u32": 4, "__s32": 4, "__u64": 8, "__s64": 8}
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

# Every struct of the header: its twin, or None for what Python never reads.
TWINS: dict[str, struct.Struct | None] = {
    "file_key": None,  # a part of the others
    "sandbox": abi.SANDBOX,
    "binary_key": abi.BINARY_KEY,
    "binary": abi.BINARY,
    "script_key": abi.SCRIPT_KEY,
    "script": abi.SCRIPT,
    "task": abi.TASK,
    "verdict_key": abi.VERDICT_KEY,
    "literal_key": abi.LITERAL_KEY,
    "service_key": abi.SERVICE_KEY,
    "variable_key": abi.VARIABLE_KEY,
    "tuple_key": None,
    "origin": abi.Origin.LAYOUT,
    "socket_state": abi.SOCKET_STATE,
    "asker_key": abi.ASKER_KEY,
    "asker": abi.ASKER,
    "usage": abi.USAGE,
    "conversation": None,
    "speaker": abi.Speaker.LAYOUT,
    "event": abi.Event.LAYOUT,
    "long_event": None,
    "refusal_key": abi.REFUSAL_KEY,
    "refusal": abi.REFUSAL,
    "open_key": abi.OPEN_KEY,
    "file_facts": abi.FileFacts.LAYOUT,
}

Field = tuple[str, int, int, bool]  # name, offset, size in bytes, whether signed


def constants(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)$", text, re.M)}


class Layouts:
    """The structs of a header, flattened to scalars and byte arrays and laid out as every 64-bit ABI does."""

    def __init__(self, text: str) -> None:
        text = COMMENTS.sub("", text)
        self.fields: dict[str, list[Field]] = {}
        self.sizes: dict[str, int] = {}
        self._aligned: dict[str, int] = {}
        self.asserted = {name: int(size) for name, size in re.findall(r"_Static_assert\(sizeof\(struct (\w+)\) == (\d+)", text)}
        self._constants = constants(text)
        for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, re.S | re.M):
            self._lay(name, body)

    def _lay(self, name: str, body: str) -> None:
        offset, aligned, fields = 0, 1, []
        declarations = re.findall(r"(struct \w+|\w+) (\w+)(?:\[(\w+)\])?;", body)
        assert len(declarations) == body.count(";"), f"struct {name} has a declaration this test cannot read"
        for kind, field, length in declarations:
            count = int(self._constants.get(length, length) or 1)
            nested = kind.removeprefix("struct ") if kind.startswith("struct ") else None
            size = self.sizes[nested] if nested else SCALARS[kind]
            align = self._aligned[nested] if nested else size
            offset += -offset % align
            aligned = max(aligned, align)
            if nested:
                fields += [(f"{field}.{inner}", offset + at, width, signed) for inner, at, width, signed in self.fields[nested]]
            else:
                assert count == 1 or size == 1, "arrays are of bytes"
                fields.append((field, offset, size * count, kind.startswith("__s")))
            offset += size * count
        self.fields[name], self._aligned[name] = fields, aligned
        self.sizes[name] = offset + -offset % aligned


def laid_out(layout: struct.Struct) -> Iterator[tuple[int, int, bool]]:
    """(offset, size, signed) of each field of a struct format. All formats are little-endian without implicit padding."""
    assert layout.format[0] == "<", "native alignment would hide a difference"
    offset = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        for _ in range(1 if code == "s" else int(count or 1)):
            size = struct.calcsize("<" + (count + code if code == "s" else code))
            yield offset, size, code.islower() and code != "s"
            offset += size


C = Layouts(HEADER)


def test_every_struct_of_the_header_is_accounted_for() -> None:
    assert list(C.fields) == list(TWINS) and len(C.fields) == HEADER.count("\nstruct ")


@pytest.mark.parametrize("name", TWINS)
def test_sizes(name: str) -> None:
    """What the compiler asserts, what the fields come to, and what Python packs."""
    twin = TWINS[name]
    assert C.asserted.get(name, C.sizes[name]) == C.sizes[name]
    assert name in C.asserted
    assert twin is None or twin.size == C.sizes[name]


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin])
def test_offsets(name: str) -> None:
    twin = TWINS[name]
    assert twin is not None
    assert list(laid_out(twin)) == [(at, size, signed) for _, at, size, signed in C.fields[name]]


@pytest.mark.parametrize("name", TWINS)
def test_padding_is_explicit(name: str) -> None:
    """A hole would carry whatever was on the kernel's stack, and make two equal keys differ."""
    end = 0
    for field, at, size, _ in C.fields[name]:
        assert at == end, f"a hole before {field}"
        end = at + size
    assert end == C.sizes[name]


# what decodes reads each field from its own place: the C side's names, distinct values, Python's attributes


def sample(name: str, **special: int | bytes) -> tuple[bytes, dict[str, Any]]:
    """A struct with a different value in every field, by the header's layout."""
    raw, values = bytearray(C.sizes[name]), {}
    for number, (field, at, size, _) in enumerate(C.fields[name], start=1):
        value: Any = special.get(field, number if size in CODES else bytes(range(number, number + size)))
        raw[at : at + size] = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        values[field] = value
    return bytes(raw), values


def test_origin_decodes_by_name() -> None:
    raw, values = sample("origin", family=6, verdict=2)
    decoded = abi.Origin.decode(raw)
    for field in ("sandbox", "identity", "exec_id", "pid", "name", "generation", "port", "verdict", "cookie"):
        assert getattr(decoded, field) == values.pop(field), field
    assert decoded.address.packed == values.pop("addr")
    assert set(values) == {"family"}


def test_event_decodes_by_name() -> None:
    raw, values = sample("event", type=2, verdict=1, why=4, family=6, size=3)
    decoded = abi.Event.decode(raw + b"tail that is longer")
    for field in ("type", "verdict", "why", "port", "protocol", "sandbox", "generation", "identity", "name", "pid", "time"):
        assert getattr(decoded, field) == values.pop(field), field
    for field in ("exec_id", "parent_exec_id", "cookie"):
        assert getattr(decoded, field) == values.pop(field), field
    assert decoded.address is not None and decoded.address.packed == values.pop("addr")
    assert decoded.tail == b"tai"
    assert set(values) == {"family", "size", "exe.ino", "exe.dev", "exe.gen"}


def test_a_long_event_decodes_by_name() -> None:
    head, _ = sample("event", type=1, verdict=0, why=9, family=0, size=4)
    raw = bytearray(C.sizes["long_event"])
    raw[: len(head)] = head
    for field, text in (("tail", b"/bin/garbage"), ("variable", b"LD_PRELOAD=/tmp/x.so\0garbage")):
        at = next(at for name, at, _, _ in C.fields["long_event"] if name == field)
        raw[at : at + len(text)] = text
    decoded = abi.Event.decode(bytes(raw))
    assert (decoded.tail, decoded.variable) == (b"/bin", "LD_PRELOAD")


def test_file_facts_decode_by_name() -> None:
    raw, values = sample("file_facts")
    decoded = abi.FileFacts.decode(raw)
    renamed = {"ino": "key.ino", "dev": "key.dev", "generation": "key.gen"}
    for field in ("ino", "dev", "generation", "size", "ctime_sec", "ctime_nsec", "nlink"):
        assert getattr(decoded, field) == values.pop(renamed.get(field, field)), field
    assert not values


# enums and constants


def enums(text: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, body in re.findall(r"^enum (\w+) \{(.*?)\};", COMMENTS.sub("", text), re.S | re.M):
        value = -1
        found[name] = {}
        for member in filter(None, map(str.strip, body.split(","))):
            label, _, explicit = member.partition("=")
            value = int(explicit) if explicit else value + 1
            found[name][label.strip()] = value
    return found


ENUMS: dict[str, tuple[str, type[IntEnum] | type[IntFlag]]] = {
    "verdict": ("VERDICT_", abi.Verdict),
    "why": ("WHY_", abi.Why),
    "event_type": ("EVENT_", abi.EventType),
    "sandbox_flag": ("SANDBOX_", abi.SandboxFlag),
    "binary_flag": ("BINARY_", abi.BinaryFlag),
    "refused": ("REFUSED_", refusals.Told),
}


def test_every_enum_of_the_header_is_accounted_for() -> None:
    assert set(enums(HEADER)) == {*ENUMS, "failure", "task_flag"}  # task_flag: the programs' own


@pytest.mark.parametrize("name", ENUMS)
def test_enums(name: str) -> None:
    prefix, twin = ENUMS[name]
    members = {member.name: member.value for member in twin if member.value or not issubclass(twin, IntFlag)}
    assert {prefix + str(label): value for label, value in members.items()} == enums(HEADER)[name]


def test_failures_are_counted_under_their_own_names() -> None:
    spelt = {"environment": "ENV"}
    labels = [*(f"FAIL_{spelt.get(name, name.upper())}" for name in abi.FAILURES), "FAIL_COUNT"]
    assert enums(HEADER)["failure"] == {label: number for number, label in enumerate(labels)}


def test_constants() -> None:
    names = ("SCRIPT_PATH", "REFUSED_CALLS", "REFUSALS_APART", "REFUSAL_ROOM", "OPEN_UNKNOWN", "OPEN_ROOM", "OPEN_STEPS", "OPENS_APART")
    assert constants(HEADER) == {name: getattr(abi, name) for name in names}


@pytest.mark.parametrize(("quota", "table"), [("QUOTA_TASKS", "tasks"), ("QUOTA_ORIGINS", "origins")])
def test_no_sandbox_can_fill_a_shared_map(quota: str, table: str) -> None:
    entries = re.search(rf"^SHARED_HASH\({table}, .*, (\d+)\);", MAPS, re.M)
    assert entries and 4 * constants(MAPS)[quota] <= int(entries[1])


# this test itself


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("__u32 pid;\n\t__u32 name;", "__u32 name;\n\t__u32 pid;", id="swapped: seen by name"),
        pytest.param("__u64 exec_id;\n\t__u32 pid;", "__u32 exec_id;\n\t__u32 pid;", id="narrowed"),
        pytest.param("__s64 size;", "__u64 size;", id="sign"),
    ],
)
def test_a_change_of_the_header_alone_is_seen(old: str, new: str) -> None:
    changed = Layouts(HEADER.replace(old, new))
    assert changed.fields != C.fields
