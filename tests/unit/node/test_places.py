"""How a pod's cgroup is called, by every driver, and whose pod it then is."""

from __future__ import annotations

import pytest

from stockade.node.places import of_a_file, pod_of

UID, HASH = "4a7de2fb-4197-4693-a2e7-19e36cb8d0a6", "5d41402abc4b2a76b9719d911017c592"


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        (f"pod{UID}", UID),
        (f"kubepods-besteffort-pod{UID.replace('-', '_')}.slice", UID),
        (f"kubepods-pod{UID.replace('-', '_')}.slice", UID),
        (f"pod{HASH}", HASH),
        (f"kubepods-burstable-pod{HASH}.slice", HASH),
        (f"pod{UID.replace('-', '_', 1)}", None),
        ("pod", None),
        (f"pod{UID}x", None),
        (f"xpod{UID}", None),
    ],
)
def test_a_pods_cgroup_says_which_pod_it_is(name: str, uid: str | None) -> None:
    assert pod_of(name) == uid


def test_a_static_pod_is_known_by_its_uid() -> None:
    assert of_a_file(HASH) and not of_a_file(UID) and not of_a_file(UID.replace("-", "_"))
