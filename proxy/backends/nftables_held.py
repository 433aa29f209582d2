"""Our nftables tables read back: `proxy.backends.held.Held` over their elements. PURE."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from proxy.backends import elements, ruleset
from proxy.backends.elements import Element
from proxy.backends.held import DROPPED, REFUSED, Way
from proxy.rules.plan import Backend, Frontend, RuleSet


class NftablesHeld:
    """Elements as they were dumped."""

    def __init__(self, found: Iterable[Element]) -> None:
        self.elements = tuple(found)

    @cached_property
    def ways(self) -> Sequence[Way]:
        rows = [each for each in self.elements if each.set in (elements.ENDPOINTS, elements.LOCAL_ENDPOINTS)]
        rows.sort(key=lambda each: (each.set, int(each.key[3])))
        return [
            Way(_frontend(each), _backend(each), each.connections, each.set == elements.LOCAL_ENDPOINTS)
            for each in rows
        ]

    def ends(self, frontend: Frontend) -> str:
        for each in self.elements:
            if each.set == elements.SERVICES and each.key == frontend:
                return DROPPED if each.data == (0,) else ""
            if each.set == elements.REFUSED and each.key == frontend:
                return REFUSED
        known = {each.key[0] for each in self.elements if each.set == elements.CLUSTER_ADDRESSES}
        return REFUSED if frontend.address in known else ""

    def difference(self, rules: RuleSet) -> list[str]:
        wanted = set(elements.of_rules(rules))
        present = {element for element in self.elements if element.set != elements.AFFINITY}
        missing, extra = sorted(wanted - present, key=_order), sorted(present - wanted, key=_order)
        return [*(_line("+", element) for element in missing), *(_line("-", element) for element in extra)]

    def command(self, frontend: Frontend) -> str:
        key = " . ".join(map(str, frontend))
        family = ruleset.FAMILIES[frontend.version]
        return f"nft get element {family} {ruleset.TABLE} {elements.SERVICES} '{{ {key} }}'"


def _frontend(element: Element) -> Frontend:
    address, protocol, port = element.key[:3]
    return Frontend(str(address), str(protocol), int(port))


def _backend(element: Element) -> Backend:
    return Backend(str(element.data[0]), int(element.data[1]))


def _line(sign: str, element: Element) -> str:
    return f"{sign} ipv{element.table_version} {element.set}: {element.text()}"


def _order(element: Element) -> tuple[int, str, str]:
    return element.table_version, element.set, element.text()
