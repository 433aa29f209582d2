"""The state between events and the kernel: what changed since the last plan, and only that is planned anew.

Owns which policies, pods and namespaces there are, whose an address is, and what was planned for each pod. No effects:
events go in, a Change comes out. Must not know nftables or informers.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from cni.policy import plan
from cni.policy.model import Pod
from cni.policy.plan import Chain, Change, Element, PolicySet, Structure
from cni.policy.rules import EGRESS, INGRESS, Policy

T = TypeVar("T")

DIRECTIONS = (INGRESS, EGRESS)
NOTHING: frozenset[Element] = frozenset()


class Tracker:
    """Policies, pods and namespaces as last told, and the rules planned from them."""

    def __init__(self) -> None:
        self.policies: dict[str, Policy] = {}
        self.pods: dict[str, Pod] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._by_address: dict[str, set[str]] = {}
        self._by_namespace: dict[str, set[str]] = {}
        self._local: set[str] = set()
        self._changed_pods: set[str] = set()
        self._changed_policies: set[str] = set()
        self._chains: dict[str, tuple[Chain, ...]] = {}
        self._structure = Structure()
        self._members: dict[str, frozenset[Element]] = {}
        self._isolated: dict[str, frozenset[Element]] = {}

    def policy(self, key: str, found: Policy | None) -> None:
        """A policy came, changed or (None) went."""
        _put(self.policies, key, found)
        self._changed_policies.add(key.split("/", 1)[0])

    def namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace came, changed or (None) went: all its pods may be somebody else's peers now."""
        if self._labels.get(name) != labels:
            _put(self._labels, name, labels)
            self._changed_pods |= self._by_namespace.get(name, set())

    def pod(self, key: str, found: Pod | None) -> None:
        """A pod came, changed or (None) went."""
        old = self.pods.get(key)
        if old == found:
            return
        for address in old.addresses if old else ():
            _discard(self._by_address, address, key)
        for address in found.addresses if found else ():
            self._by_address.setdefault(address, set()).add(key)
        namespace = key.split("/", 1)[0]
        if found is None:
            _discard(self._by_namespace, namespace, key)
        else:
            self._by_namespace.setdefault(namespace, set()).add(key)
        (self._local.add if found is not None and found.local else self._local.discard)(key)
        _put(self.pods, key, found)
        self._changed_pods.add(key)
        # An address that changes hands concerns whoever else claims it.
        for address in (*(old.addresses if old else ()), *(found.addresses if found else ())):
            self._changed_pods |= self._by_address.get(address, set())

    def settle(self) -> Change:
        """Plans what changed since the last call."""
        dirty, self._changed_pods = self._changed_pods, set()
        namespaces, self._changed_policies = self._changed_policies, set()
        for key in dirty | {key for key in self._local if key.split("/", 1)[0] in namespaces}:
            self._chains[key] = self._chains_of(key)
            if not self._chains[key]:
                del self._chains[key]
        before, after = self._structure, self._used_structure()
        self._structure = after
        gone, new = before.sets - after.sets, after.sets - before.sets
        added: set[Element] = set()
        removed: set[Element] = set()
        # In another order an element could be taken from its new owner: first all that goes, then all that comes.
        for key in set(self.pods) | dirty if gone or new else dirty:
            old = self._members.get(key, NOTHING)
            now = self._memberships(key, after) if key in dirty else self._extended(key, old, gone=gone, new=new)
            _put(self._members, key, now or None)
            removed |= {element for element in old - now if element.set not in gone}
            added |= now - old
        for key in dirty | set(self._chains) | set(self._isolated):
            old = self._isolated.get(key, NOTHING)
            now = plan.isolation(self._owned(key), self._chains.get(key, ()))
            _put(self._isolated, key, now or None)
            removed |= old - now
            added |= now - old
        both = added & removed
        return Change(before=before, after=after, add=_sorted(added - both), remove=_sorted(removed - both))

    @property
    def idle(self) -> bool:
        """Whether no pod of this node is isolated, so that there is no table."""
        return not self._structure.chains

    def wanted(self) -> PolicySet:
        """All that was planned so far."""
        elements = NOTHING.union(*self._members.values(), *self._isolated.values())
        return PolicySet(structure=self._structure, elements=elements)

    def _chains_of(self, key: str) -> tuple[Chain, ...]:
        pod = self.pods.get(key)
        if pod is None or not pod.local:
            return ()
        about = [each for _, each in sorted(self.policies.items()) if each.selects(pod)]
        found = [plan.chain(direction, about) for direction in DIRECTIONS]
        return tuple(each for each in found if each is not None)

    def _used_structure(self) -> Structure:
        used = {each.name: each for chains in self._chains.values() for each in chains}
        if used.keys() == self._structure.chains.keys():
            return self._structure
        return plan.structure(used.values())

    def _owned(self, key: str) -> tuple[str, ...]:
        """The addresses of a pod that are not another's by now."""
        pod = self.pods.get(key)
        return tuple(a for a in pod.addresses if self._owner(a) == key) if pod else ()

    def _owner(self, address: str) -> str:
        return max(self._by_address[address], key=lambda key: (self.pods[key].rank, key))

    def _memberships(self, key: str, structure: Structure) -> frozenset[Element]:
        pod = self.pods.get(key)
        if pod is None:
            return NOTHING
        return plan.memberships(
            pod,
            self._owned(key),
            self._labels.get(pod.namespace),
            peers=structure.peers.values(),
            named=structure.named.values(),
        )

    def _extended(
        self, key: str, old: frozenset[Element], *, gone: frozenset[str], new: frozenset[str]
    ) -> frozenset[Element]:
        """A pod that did not change itself: its elements without sets that go, with those of sets that come."""
        kept = frozenset(element for element in old if element.set not in gone) if gone else old
        structure = self._structure
        part = Structure(
            peers={name: each for name, each in structure.peers.items() if name in new},
            named={name: each for name, each in structure.named.items() if name in new},
        )
        return kept | self._memberships(key, part)


def _sorted(elements: Iterable[Element]) -> tuple[Element, ...]:
    return tuple(sorted(elements, key=lambda e: (e.version, e.set, str(e.key))))


def _put(mapping: dict[str, T], key: str, value: T | None) -> None:
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def _discard(mapping: dict[str, set[str]], name: str, key: str) -> None:
    held = mapping.get(name, set())
    held.discard(key)
    if not held:
        mapping.pop(name, None)
