"""What is wanted of a pod: of policies that enforce, observe, are rolled out, broken or not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from stockade.kubernetes.kept import Decided
from stockade.kubernetes.loading import Loaded
from stockade.kubernetes.plan import share
from stockade.kubernetes.resources import Key, Seen
from stockade.kubernetes.selecting import Choice, Selector
from stockade.kubernetes.wanting import LEFT, NOTHING, InForce, Unmatched, answer
from stockade.node.pod import Pod

ALL = Selector()
WHOLE = Decided((Path("/of.team.old.yaml"),), "r")


def loaded(name: str, generation: int = 1, *, observe: bool = False, selector: Selector | None = ALL, priority: int = 0) -> Loaded:
    key = Key("team", name)
    return Loaded(key, "uid", generation, Choice(key, priority, selector), Path(f"/{name}.{generation}.yaml"), observe)


def asked(
    policies: Sequence[InForce],
    *,
    names: tuple[str, ...] | None = None,
    before: Decided | None = None,
    unmatched: Unmatched = "leave",
    share: int = 0,
) -> tuple[list[str] | None, bool]:
    """The files that are wanted, None: it is left alone; and whether it only observes."""
    pod = Seen(Pod("1", "team", "box"), "1", {}, names)
    found = answer(pod, policies, {"team": {}}, before, unmatched, {each.key: share for each in policies})
    files = found.decided.files
    return None if files is None else [file.name for file in files], found.decided.observe


def test_what_no_policy_means_is_left_or_refused() -> None:
    assert asked([]) == (None, False)
    assert asked([], unmatched="deny") == ([], False)
    assert asked([InForce(Key("team", "a"), loaded("a", selector=None))]) == (None, False)


def test_what_observes_is_left_out_beside_what_enforces() -> None:
    enforcing, observing = InForce(Key("team", "a"), loaded("a")), InForce(Key("team", "b"), loaded("b", observe=True))
    assert asked([observing]) == (["b.1.yaml"], True)
    assert asked([enforcing, observing]) == (["a.1.yaml"], False)


def test_a_name_that_means_nothing_lets_nothing_out() -> None:
    named = InForce(Key("team", "a"), loaded("a", selector=None))
    assert asked([named], names=("a",)) == (["a.1.yaml"], False)
    assert asked([named], names=("a", "b")) == ([], False)
    assert asked([named], names=("a", "b"), before=WHOLE) == ([], False)


def test_a_policy_that_never_loaded_is_only_for_who_comes_after_it() -> None:
    broken = InForce(Key("team", "a"), broken=Choice(Key("team", "a"), 0, ALL))
    other = InForce(Key("team", "b"), loaded("b"))
    assert asked([broken]) == ([], False)
    assert asked([broken, other]) == ([], False)
    assert asked([broken], before=LEFT) == (None, False)
    assert asked([broken, other], before=WHOLE) == (["b.1.yaml"], False)
    # What was refused for it alone stays refused, whoever starts again.
    assert asked([broken], before=Decided((), "nothing", whole=False)) == ([], False)
    assert asked([InForce(Key("team", "a"), loaded("a"))], before=Decided((), "nothing", whole=False)) == (["a.1.yaml"], False)


@pytest.mark.parametrize(("place", "looks"), [(0, True), (24, True), (25, False), (99, False)])
def test_a_share_looks_and_the_others_do_as_before(place: int, looks: bool) -> None:
    first = InForce(Key("team", "a"), trial=loaded("a"), percent=25)
    assert asked([first], share=place) == ((["a.1.yaml"], True) if looks else (None, False))
    assert asked([first], share=place, unmatched="deny") == ((["a.1.yaml"], True) if looks else ([], False))
    # Whoever is held already goes on being held: to what was before, and to other policies.
    edited = InForce(Key("team", "a"), loaded("a"), loaded("a", 2), 25)
    assert asked([edited], share=place) == (["a.1.yaml"], False)
    other = InForce(Key("team", "b"), loaded("b"))
    assert asked([first, other], share=place) == (["b.1.yaml"], False)


def test_a_pod_is_told_what_is_tried_on_it() -> None:
    pod = Seen(Pod("1", "team", "box"), "1")
    edited = InForce(Key("team", "a"), loaded("a"), loaded("a", 2), 25)
    found = answer(pod, [edited], {}, None, "leave", {edited.key: 3})
    assert (found.by, found.tried) == ((loaded("a"),), (loaded("a", 2),))


def test_a_name_of_what_is_not_rolled_out_yet_is_there() -> None:
    first = InForce(Key("team", "a"), trial=loaded("a", selector=None), percent=1)
    assert asked([first], names=("a",), share=50) == (None, False)


def test_another_mode_order_or_file_is_another_revision() -> None:
    pod = Seen(Pod("1", "team", "box"), "1")

    def revision(*policies: Loaded) -> str:
        return answer(pod, [InForce(each.key, each) for each in policies], {}, None, "leave", {}).decided.revision

    several = [
        revision(loaded("a")),
        revision(loaded("a", 2)),
        revision(loaded("a", observe=True)),
        revision(loaded("a"), loaded("b")),
        revision(loaded("a"), loaded("b", priority=1)),
    ]
    assert len(set(several)) == 5 and revision(loaded("a")) == several[0]
    assert NOTHING.revision not in several


def test_shares_are_spread_and_differ_by_policy() -> None:
    uids = [f"00000000-0000-0000-0000-{number:012}" for number in range(2000)]
    places = [share(Key("team", "a"), uid) for uid in uids]
    assert 120 < sum(place < 10 for place in places) < 280 and set(places) == set(range(100))
    assert [share(Key("team", "b"), uid) for uid in uids] != places
