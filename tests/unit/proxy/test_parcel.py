"""What is packed is what is unpacked: a policy decides the same on both sides."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field

import pytest

from stockade.policy import decide, load, presets
from stockade.proxy.parcel import pack
from stockade.types import Binary, Request


def unpack(data):
    return pickle.loads(data)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("name", [preset.name for preset in presets()])
def test_a_policy(name):
    policy = load([], presets=[name], generation=7)
    unpacked = unpack(pack(policy))
    assert type(unpacked) is type(policy) and unpacked.generation == 7
    assert pickle.dumps(unpacked) == pickle.dumps(unpack(pickle.dumps(policy))), "as pickle itself would have it"
    for rule in policy.rules:
        for binary in rule.binary.allow:
            for pattern in rule.destination.allow:
                request = Request(Binary.named(binary), pattern.value, 443, "GET", "/")
                assert decide(request, unpacked) == decide(request, policy)


@dataclass(frozen=True, slots=True)
class Made:
    """It is more than what it was made from."""

    a: int
    b: int = field(init=False, default=0)


@dataclass(frozen=True, slots=True)
class One:
    a: int


@dataclass(frozen=True, slots=True)
class Own:
    """It has its own way."""

    a: int
    b: int

    def __reduce__(self):
        return Own, (self.a, 99)

    def __getstate__(self):
        return None


@pytest.mark.parametrize(("value", "expected"), [(One(1), One(1)), (Made(1), Made(1)), (Own(1, 2), Own(1, 99)), ([One(1)], [One(1)])])
def test_what_is_not_made_of_its_fields_pickles_in_its_own_way(value, expected):
    made = Made(1)
    object.__setattr__(made, "b", 5)
    assert unpack(pack(made)) == made
    assert unpack(pack(value)) == expected
