"""Policy rules without a kernel: holds what it is given, refuses what nft refuses, and follows a new connection."""

from cni.policy.kernel import RulesError
from cni.policy.plan import SELF, Chain, Change, Element, Match, PolicySet, Structure
from cni.policy.rules import EGRESS, INGRESS


class FakeRules:
    """`cni.policy.kernel.Rules` in memory. `fail` is how many writes are refused from now on."""

    def __init__(self) -> None:
        self.structure = Structure()
        self.elements: dict[tuple[int, str, tuple[str | int, ...]], Element] = {}
        self.there = False
        self.fail = 0
        self.wholes: list[PolicySet] = []
        self.changes: list[Change] = []

    async def replace(self, wanted: PolicySet) -> None:
        self._may_fail()
        self.structure, self.elements = wanted.structure, {}
        self._add(wanted.elements)
        self.there = not wanted.empty
        self.wholes.append(wanted)

    async def change(self, change: Change) -> None:
        self._may_fail()
        if not self.there or set(change.before.chains) != set(self.structure.chains):
            raise RulesError("the change does not start at what is there")
        for element in change.remove:
            if self.elements.pop(_key(element), None) != element:
                raise RulesError(f"no such element: {element.set} {element.text()}")
        gone = self.structure.sets - change.after.sets
        self.elements = {key: element for key, element in self.elements.items() if element.set not in gone}
        self.structure = change.after
        self._add(change.add)
        lost = {e.chain for e in self.elements.values() if e.chain} - set(self.structure.chains)
        if lost:
            raise RulesError(f"chains are in use: {lost}")
        self.changes.append(change)

    def flush(self) -> None:
        """What `nft flush ruleset` does."""
        self.there, self.structure, self.elements = False, Structure(), {}

    def passes(self, source: str, to: str, protocol: str = "tcp", port: int = 80) -> bool:
        """Whether the first packet of a connection between two addresses is let through."""
        version = 6 if ":" in to else 4
        if (version, SELF, (source, to)) in self.elements:
            return True
        for direction, owner in ((EGRESS, source), (INGRESS, to)):
            entry = self.elements.get((version, direction, (owner,)))
            if entry is not None and not self._allows(self.structure.chains[entry.chain], source, to, protocol, port):
                return False
        return True

    def _allows(self, chain: Chain, source: str, to: str, protocol: str, port: int) -> bool:
        other = source if chain.direction == INGRESS else to
        return any(self._matches(match, other, to, protocol, port) for match in chain.matches)

    def _matches(self, match: Match, other: str, to: str, protocol: str, port: int) -> bool:
        version = 6 if ":" in to else 4
        if match.side in self.structure.blocks:
            if not self.structure.blocks[match.side].matches(other):
                return False
        elif match.side and (version, match.side, (other,)) not in self.elements:
            return False
        if match.protocol not in ("", protocol):
            return False
        if match.ports and not any(first <= port <= last for first, last in match.ports):
            return False
        return not match.named or (version, match.named, (to, port)) in self.elements

    def _add(self, elements: frozenset[Element] | tuple[Element, ...]) -> None:
        for element in elements:
            known = element.set in {SELF, INGRESS, EGRESS} | self.structure.sets
            if not known or (element.chain and element.chain not in self.structure.chains):
                raise RulesError(f"no such set or chain: {element.set} {element.text()}")
            if _key(element) in self.elements:
                raise RulesError(f"element is there: {element.set} {element.text()}")
            self.elements[_key(element)] = element

    def _may_fail(self) -> None:
        if self.fail:
            self.fail -= 1
            raise RulesError("refused on order")


def _key(element: Element) -> tuple[int, str, tuple[str | int, ...]]:
    return element.version, element.set, element.key
