"""What nodes write together: each its own entry, the sums of all, and the steps of a roll-out, which count once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stockade.kubernetes.plan import Plan, Stage
from stockade.kubernetes.resources import Key, Resource
from stockade.kubernetes.rollout import LATE, Stand, step
from stockade.kubernetes.selecting import Fault
from stockade.kubernetes.status import MOST, Entry, merged

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
SECONDS = 1767225600.0  # NOW
FAULT = Fault("spec.network[0].pth", "a rule has no key `pth`", "unknown_key", 12)


def resource(status: dict[str, Any] | None = None, generation: int = 3, **spec: Any) -> Resource:
    return Resource(Key("team", "p"), "uid", generation, "1", spec, status or {})


def written(before: Resource, entry: Entry, now: str = NOW, **more: Any) -> Resource:
    said = merged(before, entry, now, **more)
    assert said is not None
    return replace(before, status=said.status)


def condition(found: Resource, kind: str) -> tuple[str, str]:
    each = next(each for each in found.status["conditions"] if each["type"] == kind)
    return each["status"], each["message"]


def test_each_node_has_its_entry_and_the_sums_are_of_all() -> None:
    found = written(resource(), Entry("b", 3, 3, pods=2, governed=2, refused=5))
    found = written(found, Entry("a", 3, 3, pods=3, governed=1, refused=1))
    assert [each["name"] for each in found.status["nodes"]] == ["a", "b"]
    assert [found.status[name] for name in ("pods", "sandboxes", "refused", "observedGeneration")] == [5, 3, 6, 3]
    assert condition(found, "Loaded") == ("True", "5 pods on 2 nodes")
    assert condition(found, "Enforced") == ("Unknown", "2 pods not governed yet")
    found = written(found, Entry("a", 3, 3, pods=3, governed=3, refused=1), LATER)
    assert condition(found, "Enforced") == ("True", "every pod that it means is held")
    since = {each["type"]: each["lastTransitionTime"] for each in found.status["conditions"]}
    assert since == {"Loaded": NOW, "Enforced": LATER, "Trusted": NOW}


def test_a_large_cluster_does_not_fit_and_what_is_wrong_does_first() -> None:
    found = resource()
    for number in range(MOST + 5):
        said = merged(found, Entry(f"n{number:03}", 3, 3, pods=1), NOW)
        found = found if said is None else replace(found, status=said.status)
    assert len(found.status["nodes"]) == MOST
    assert merged(found, Entry("z", 3, 3, pods=1), LATER) is None
    found = written(found, Entry("z", 3, 2, faults=(FAULT,), pods=1), LATER)
    assert len(found.status["nodes"]) == MOST and found.status["nodes"][-1]["name"] == "z" and condition(found, "Loaded")[0] == "False"
    found = written(found, Entry("z", 3, 3, pods=1), LATER)  # who is there stays
    assert found.status["nodes"][-1]["name"] == "z" and condition(found, "Loaded")[0] == "True"


def test_what_is_said_already_is_not_written_again() -> None:
    entry = Entry("a", 3, 3, pods=1, governed=1)
    found = written(resource(), entry)
    assert merged(found, entry, LATER) is None
    counted = merged(found, replace(entry, refused=7), LATER)
    assert counted is not None and not counted.urgent
    weighty = merged(found, replace(entry, faults=(FAULT,)), LATER)
    assert weighty is not None and weighty.urgent


def test_what_does_not_load_is_said_with_field_line_and_node() -> None:
    found = written(resource(), Entry("a", 3, 2, faults=(FAULT,), pods=1, governed=1))
    said = "spec.network[0].pth, line 12: a rule has no key `pth` [unknown_key]; generation 2 stays in force (a)"
    assert condition(found, "Loaded") == ("False", said)
    found = written(found, Entry("b", 3, 0, faults=(FAULT,)))
    assert found.status["nodes"][1]["problems"] == [
        {"field": "spec.network[0].pth", "message": "a rule has no key `pth`", "line": 12, "code": "unknown_key"}
    ]
    found = written(replace(found, generation=4), Entry("b", 4, 4))
    assert condition(found, "Loaded")[0] == "False"  # a has not read it
    found = written(found, Entry("a", 4, 4, pods=1))
    assert condition(found, "Loaded")[0] == "True" and [each["name"] for each in found.status["nodes"]] == ["a"]


def test_a_node_that_has_nothing_to_say_says_it_once_for_all() -> None:
    found = written(resource(), Entry("a", 3, 3))
    assert found.status["nodes"] == [] and condition(found, "Loaded") == ("True", "it means no pod")
    assert merged(found, Entry("b", 3, 3), LATER) is None


def test_who_is_not_held_is_named_and_a_node_that_is_gone_is_not() -> None:
    found = written(resource(), Entry("a", 3, 3, pods=1, governed=1, unheld=("team/box: CAP_NET_ADMIN",)))
    assert condition(found, "Enforced") == ("False", "a: team/box: CAP_NET_ADMIN")
    found = written(found, Entry("b", 3, 3, pods=1, governed=1), gone=["a"])
    assert condition(found, "Enforced")[0] == "True" and [each["name"] for each in found.status["nodes"]] == ["b"]


def test_what_only_observes_is_not_called_enforced() -> None:
    found = written(resource(mode="observe"), Entry("a", 3, 3, pods=1, governed=1))
    assert condition(found, "Enforced") == ("False", "it observes: what it would refuse is recorded, and goes through")


def test_a_roll_out_that_is_only_looked_at_is_not_called_enforced_though_the_newest_enforces() -> None:
    found = written(resource(), Entry("a", 3, 0, pods=2, governed=2, observing=1))
    assert found.status["nodes"][0]["observing"] == 1
    assert condition(found, "Enforced") == ("False", "of 1 pod what would be refused is recorded, and goes through (a)")
    complete = written(found, Entry("a", 3, 3, pods=2, governed=2))
    assert condition(complete, "Enforced")[0] == "True" and "observing" not in complete.status["nodes"][0]


PLAN = Plan((Stage(10, 60), Stage(50, 60)))


def stepped(before: Resource, at: float, plan: Plan | None = PLAN, stable: tuple[int, Any] | None = None) -> Resource | None:
    said = step(before, plan, stable, at, NOW)
    return None if said is None else replace(before, status=said.status)


def stand(found: Resource | None) -> tuple[str, int, int]:
    assert found is not None
    said = Stand.of(found)
    assert said is not None
    return said.state, said.stage, said.percent(PLAN)


def test_a_roll_out_goes_by_its_stages() -> None:
    begun = stepped(resource(network=[1]), SECONDS, stable=(2, {"network": [0]}))
    assert stand(begun) == ("Progressing", 0, 10) and begun is not None
    assert stepped(begun, SECONDS + 59 + LATE) is None
    second = stepped(begun, SECONDS + 60 + LATE)
    assert stand(second) == ("Progressing", 1, 50) and second is not None
    done = stepped(second, SECONDS + 60 + LATE)
    assert stand(done) == ("Complete", 1, 0) and done is not None
    assert done.status["rollout"]["stable"] == {"generation": 3, "spec": {"network": [1]}}
    assert stepped(done, SECONDS + 1000) is None
    # The next one has what is in force now for what was before, whatever the node remembers that begins it.
    again = stepped(replace(done, generation=4, spec={"network": [2]}), SECONDS)
    assert again is not None and again.status["rollout"]["stable"]["generation"] == 3


def test_more_that_is_unexpected_than_may_be_takes_it_back() -> None:
    begun = stepped(resource(), SECONDS, stable=(2, {}))
    assert begun is not None
    old = written(begun, Entry("a", 2, 2, pods=1, unexpected=("of the one before",), looking=1))
    assert stepped(old, SECONDS + 1) is None
    seen = written(begun, Entry("a", 3, 2, pods=1, unexpected=("connect of curl to x:443: no_rule",), looking=1))
    assert stand(stepped(seen, SECONDS + 1)) == ("RolledBack", 0, 0)
    assert stepped(seen, SECONDS + 1, Plan(PLAN.stages, maximum=1)) is None
    assert stand(stepped(seen, SECONDS + 1, Plan(PLAN.stages, back=False))) == ("Paused", 0, 10)
    back = stepped(seen, SECONDS + 1)
    assert back is not None and back.status["rollout"]["stable"]["generation"] == 2 and stepped(back, SECONDS + 9999) is None
    edited = stepped(replace(back, generation=4), SECONDS)
    assert stand(edited) == ("Progressing", 0, 10) and edited is not None and edited.status["rollout"]["stable"]["generation"] == 2


def test_without_a_plan_nothing_of_it_stays_in_the_status() -> None:
    begun = stepped(resource(), SECONDS)
    assert begun is not None
    over = stepped(replace(begun, generation=4), SECONDS, plan=None)
    assert over is not None and "rollout" not in over.status and over.status["conditions"] == []
    assert stepped(over, SECONDS, plan=None) is None


def test_a_status_that_somebody_wrote_by_hand_is_passed_over() -> None:
    odds: tuple[Any, ...] = ([], "x", {"since": "never"}, {"since": NOW, "generation": "three"}, {"since": None})
    for odd in odds:
        assert Stand.of(resource({"rollout": odd})) is None
    odd_nodes = resource({"nodes": ["x", {"name": "a", "pods": "many", "unexpected": None}], "conditions": ["y"]})
    assert merged(odd_nodes, Entry("b", 3, 3, pods=1), NOW) is not None and stepped(odd_nodes, SECONDS) is not None
