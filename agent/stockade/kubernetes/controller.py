"""This node's pods and the cluster's policies, as they are heard of, and what follows: who is held to what, and who is told.

One task decides. Loading blocks and is done in threads; whatever is heard meanwhile is decided on next. Nothing is decided before all has
been heard once, but what was decided before and is on the disk.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from stockade.kubernetes.events import Announcer
from stockade.kubernetes.generations import AGAIN, Generations, Policy
from stockade.kubernetes.kept import Decided, Kept, Known
from stockade.kubernetes.loading import Broken
from stockade.kubernetes.plan import share
from stockade.kubernetes.reporting import Reporter
from stockade.kubernetes.resources import Json, Key, Resource, Seen
from stockade.kubernetes.selecting import Fault, by_uid
from stockade.kubernetes.status import Entry
from stockade.kubernetes.wanting import LEFT, NOTHING, Answer, Unmatched, answer
from stockade.kubernetes.watching import Listed, Lost, News
from stockade.node.pod import Node, Standing, Wanted
from stockade.node.trust import VOLUME
from stockade.policy.model import Policy as Composed
from stockade.types import Outcome

_log = logging.getLogger(__name__)

PODS, NAMESPACES, POLICIES, CLUSTER_POLICIES = KINDS = ("pods", "namespaces", "policies", "cluster policies")
_NO_REQUEST = ("lifecycle", "policy")
_COALESCED = 1.0  # seconds in which what is counted is counted together


@dataclass(slots=True)
class Held:
    """What is known of a pod beside what the API says of it."""

    answer: Answer
    wanted: Wanted | None = None
    standing: Standing | None = None
    alone: bool = False  # it was left
    shadows: tuple[tuple[Key, Composed], ...] = ()  # of the policies that are tried on it, what it would be held to


class Controller:
    """A Listener of the node's agent, and who hears the watches."""

    def __init__(self, node: Node, name: str, kept: Kept, unmatched: Unmatched, kubelet: Path, own: str, space: str = "") -> None:
        """own: the uid of the pod that this runs in, which it leaves alone whatever policies say: it would cut itself off from them.

        space: its namespace, where the webhook is, which is left alone too: nobody would hear that it is cut off, and pods would start
        without trust stores. By a label, which counts there alone: who may make pods in that namespace has the node's root anyway.
        """
        self._node, self._name, self._kept, self._unmatched, self._kubelet, self._own = node, name, kept, unmatched, kubelet, own
        self._space = space
        self.reporter: Reporter | None = None  # before it is set nobody is told
        self.announcer: Announcer | None = None
        self.generations = Generations(kept.policies, self._wake)
        self.namespaces: dict[str, dict[str, str]] = {}
        self.lost: dict[str, str] = {}
        self.held: dict[str, Held] = {}
        self._pods: dict[str, Seen] = {}  # by the object's uid
        self._heard: set[str] = set()
        self._decided: dict[str, Decided] = {}
        self._counted: set[Key] = set()  # and not reported yet
        self._woken = asyncio.Event()

    def _wake(self) -> None:
        self._woken.set()

    # --- what is heard -------------------------------------------------------------------------------------------------------------------

    def told(self, news: News) -> None:
        """What the API says, of one kind. A kind that is not heard of keeps what was last known."""
        match news:
            case Lost(kind, None):
                self.lost.pop(kind, None)
                _log.warning("the API answers again: %s", kind)
                return
            case Lost(kind, why):
                if kind not in self.lost:
                    _log.warning("%s are not heard of, what was last known holds: %s", kind, why)
                self.lost[kind] = str(why)
                return
            case Listed(kind, items):
                self._listed(kind, items)
                self._heard.add(kind)
            case _:
                if not self._changed(news.kind, news.item, news.gone):
                    return
        self._woken.set()

    def _listed(self, kind: str, items: tuple[object, ...]) -> None:
        if kind == PODS:
            self._pods = {}
        elif kind == NAMESPACES:
            self.namespaces = {}
        else:
            self.generations.only({item.key for item in items if isinstance(item, Resource)}, kind == CLUSTER_POLICIES)
        for item in items:
            self._changed(kind, item, False)

    def _changed(self, kind: str, item: object, gone: bool) -> bool:
        """False: nothing follows from it."""
        match item:
            case Seen():
                before = self._pods.pop(item.uid, None)
                if not gone:
                    self._pods[item.uid] = item
                return before != item or gone
            case Resource():
                return self.generations.hear(item, gone)
            case (str(name), dict(labels)):
                known = self.namespaces.pop(name, None)
                if not gone:
                    self.namespaces[name] = labels
                return known != labels or gone
        return True

    def stands(self, standing: Standing) -> None:
        if (held := self.held.get(standing.uid)) is None:
            return
        held.standing = standing
        pod = self._seen(standing.uid)
        if self.announcer is not None and pod is not None:
            if standing.state in ("refused", "failed"):
                self.announcer.say(pod, "NotServed", f"everything it asks for is refused: {standing.why or '; '.join(standing.problems)}")
            if standing.unheld:
                self.announcer.say(pod, "NotHeld", f"it could get something out: {'; '.join(standing.unheld)}")
            if late := {name: gap for name, gap in standing.gaps_us.items() if gap > 0}:
                said = ", ".join(f"{name} ran {gap} µs" for name, gap in late.items())
                self.announcer.say(pod, "HeldLate", f"before it was governed {said}")
        self._report(held.answer.keys)

    def recorded(self, uid: str, record: Json) -> None:
        try:
            self._recorded(uid, record)
        except Exception:  # whoever writes the trail must not hear of it
            _log.exception("a record of pod %s is not counted", uid)

    def _recorded(self, uid: str, record: Json) -> None:
        if (held := self.held.get(uid)) is None:
            return
        policies = self.generations.policies
        news = {key for key, shadow in held.shadows if key in policies and policies[key].trial.allowed(record, shadow)}
        keys = set() if record["action"] in _NO_REQUEST else {each.key for each in held.answer.by} & policies.keys()
        what = "allowed" if record["decision"] != Outcome.DENY else "refused" if record["enforced"] else "unenforced"
        for key in keys:
            counts = policies[key].counts
            setattr(counts, what, getattr(counts, what) + 1)
        if record["decision"] == Outcome.DENY:
            for each in held.answer.tried if held.answer.decided.observe else ():
                if each in held.answer.by and each.key in policies:
                    policies[each.key].trial.would_be_refused(record)
            if keys and self.announcer is not None and (pod := self._seen(uid)) is not None:
                self.announcer.refused(pod, record)
        news |= keys
        if news and not self._counted:
            asyncio.get_running_loop().call_later(_COALESCED, self._report_counted)
        self._counted |= news

    def _report_counted(self) -> None:
        counted, self._counted = self._counted, set()
        self._report(counted)

    def _seen(self, uid: str) -> Seen | None:
        found = self._pods.get(uid)
        return found if found is not None else next((pod for pod in self._pods.values() if pod.pod.uid == uid), None)

    # --- what follows --------------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled. Raises OSError when its directory cannot be had."""
        await asyncio.to_thread(self._kept.open)
        if (known := await asyncio.to_thread(self._kept.read)) is not None:
            self._resume(known)
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._heard == set(KINDS):
                await self.generations.learn()
                await self._decide()
                await self._write_down()

    def _resume(self, known: Known) -> None:
        """What was decided holds at once, whether or not there is an API."""
        self.generations.resume(known.policies)
        self.namespaces = {name: dict(labels) for name, labels in known.namespaces.items()} | self.namespaces
        self._decided = dict(known.decided)
        if PODS not in self._heard:
            self._pods = {pod.uid: pod for pod in known.pods} | self._pods
        for uid, pod in by_uid(list(known.pods)).items():
            if (before := self._decided.get(uid)) is not None and not pod.ended:
                self._ask(pod, Answer(before))

    async def _decide(self) -> None:
        pods = {uid: pod for uid, pod in by_uid(list(self._pods.values())).items() if not pod.ended}
        in_force = [policy.in_force(key) for key, policy in self.generations.policies.items()]
        namespaces = dict(self.namespaces)
        for uid, pod in pods.items():
            before = self._decided.get(uid)
            if before is None and pod.pod.namespace not in namespaces:
                continue  # what it is labelled is not heard of yet; it is closed until then
            if uid == self._own or self._webhook(pod):
                self._ask(pod, Answer(LEFT))
                continue
            places = {each.key: share(each.key, uid) for each in in_force if each.trial is not None}
            found = answer(pod, in_force, namespaces, before, self._unmatched, places)
            if len(found.by) > 1 and isinstance(problem := await self.generations.composed(found.decided.files or ()), str):
                found = Answer(before if before is not None and before.files else NOTHING, found.by, found.tried, problem, found.keys)
            self._ask(pod, found)
            self.held[uid].shadows = await self._shadows(found)
        for uid in [uid for uid in self.held if uid not in pods]:
            del self.held[uid]
            self._decided.pop(uid, None)
            self._node.forget(uid)
            if self.announcer is not None:
                self.announcer.forget(uid)
        self._report(set(self.generations.policies))

    def _webhook(self, pod: Seen) -> bool:
        labels = pod.labels
        ours = labels.get("app.kubernetes.io/name") == "stockade" and labels.get("app.kubernetes.io/component") == "webhook"
        return bool(self._space) and pod.pod.namespace == self._space and ours

    async def _shadows(self, found: Answer) -> tuple[tuple[Key, Composed], ...]:
        """Of each policy that is tried on a pod which others hold: what the pod would be held to."""
        shadows = []
        for each in found.tried:
            if each in found.by:
                continue
            others = [other for other in found.by if other.key != each.key]
            files = tuple(other.file for other in sorted([*others, each], key=lambda other: other.choice.order))
            would = await self.generations.composed(files)
            if isinstance(would, str):
                if (policy := self.generations.policies.get(each.key)) is not None:
                    policy.trial.cannot(would)
            else:
                shadows.append((each.key, would))
        return tuple(shadows)

    def concerned(self, key: Key) -> bool:
        return any(key in held.answer.keys for held in self.held.values())

    def _ask(self, pod: Seen, found: Answer) -> None:
        uid, decided = pod.pod.uid, found.decided
        held = self.held.get(uid)
        if held is None:
            held = self.held[uid] = Held(found)
        elif held.answer.why != found.why and found.why:
            _log.warning("pod %s/%s: %s", pod.pod.namespace, pod.pod.name, found.why)
        held.answer = found
        self._decided[uid] = decided
        if self.announcer is not None and found.why:
            self.announcer.say(pod, "NoPolicy", f"everything it asks for is refused: {found.why}" if not decided.files else found.why)
        if decided == LEFT:
            if not held.alone:
                held.alone, held.wanted, held.standing = True, None, None
                self._node.leave(uid)
            return
        trusts = self._kubelet / "pods" / uid / "volumes/kubernetes.io~empty-dir" / VOLUME if pod.trusts else None
        wanted = Wanted(pod.pod, decided.files or (), decided.revision, decided.observe, trusts)
        if wanted != held.wanted:
            held.alone, held.wanted = False, wanted
            self._node.want(wanted)

    async def _write_down(self) -> None:
        known = Known(self.generations.sources(), dict(self.namespaces), tuple(self._pods.values()), dict(self._decided))
        needed = self.generations.files()
        for held in self.held.values():
            needed |= set(held.answer.decided.files or ())
        try:
            await asyncio.to_thread(self._kept.save, known)
            if all(
                held.standing is None or held.wanted is None or held.standing.revision == held.wanted.revision
                for held in self.held.values()
            ):
                await asyncio.to_thread(self._kept.clear, needed)  # not while some pod may still be held to a file before
        except OSError as error:
            _log.error("what is known cannot be kept, and would be asked of the API after a start: %s", error)
            asyncio.get_running_loop().call_later(AGAIN, self._woken.set)

    # --- what is said --------------------------------------------------------------------------------------------------------------------

    def _report(self, keys: set[Key] | frozenset[Key]) -> None:
        if self.reporter is None or self._heard != set(KINDS):
            return
        for key in keys:
            policy = self.generations.policies.get(key)
            if policy is not None and policy.latest is not None and policy.verdict is not None:
                self.reporter.say(key, self.entry(key, policy))

    def entry(self, key: Key, policy: Policy) -> Entry:
        """What this node says of a policy."""
        verdict, pods, governed, observing, looking, unheld, untrusting = policy.verdict, 0, 0, 0, 0, [], []
        faults = list(verdict.faults) if isinstance(verdict, Broken) else []
        for uid, held in self.held.items():
            looking += any(each.key == key for each in held.answer.tried)
            mine = [each for each in held.answer.by if each.key == key]
            if not mine and not (key in held.answer.keys and held.answer.why):
                continue
            pods += 1
            observing += bool(mine) and held.answer.decided.observe
            name = f"{held.wanted.pod.namespace}/{held.wanted.pod.name}" if held.wanted else uid
            stands = held.standing
            if held.answer.why and mine:
                faults.append(Fault("spec", f"with the other policies of pod {name}: {held.answer.why}"))
            if stands is None or stands.state in ("waiting", "ended"):
                continue
            if stands.unheld or stands.problems or stands.why or stands.state in ("refused", "failed"):
                unheld.append(f"{name}: {'; '.join([*stands.unheld, *stands.problems, stands.why]).strip('; ')}"[:200])
            if stands.state == "governed" and not stands.trust:
                untrusting.append(name)
            governed += stands.state == "governed" and held.wanted is not None and stands.revision == held.wanted.revision
        return Entry(
            self._name,
            observed=verdict.generation if verdict is not None else 0,
            generation=policy.good.generation if policy.good is not None else 0,
            faults=tuple(dict.fromkeys(faults)),
            pods=pods,
            governed=governed,
            observing=observing,
            refused=policy.counts.refused,
            unenforced=policy.counts.unenforced,
            allowed=policy.counts.allowed,
            unheld=tuple(unheld),
            untrusting=tuple(untrusting),
            unexpected=policy.trial.found,
            looking=looking,
        )
