"""Rules as people read them: what is wanted, what the kernel holds, and what differs. PURE.

Must not know where either side comes from.
"""

from collections.abc import Iterable, Iterator, Mapping

from kube.types import EndpointSlice, Service
from proxy.backends.held import Way
from proxy.rules import plan
from proxy.rules.plan import Backend, Frontend, PortRules, Rules, RuleSet
from proxy.services import tracker
from proxy.services.model import ServiceKey, ThisNode


def rule_set(
    services: Iterable[Service], slices: Iterable[EndpointSlice], *, node: ThisNode, ways: Iterable[Way] = ()
) -> RuleSet:
    """The rules of these objects; backends keep the places they have in `ways`."""
    places = _places(ways)
    by_service: dict[ServiceKey, list[EndpointSlice]] = {}
    for each in slices:
        key = tracker.service_of(each)
        if key is not None:
            by_service.setdefault(key, []).append(each)
    wanted: dict[ServiceKey, Rules] = {}
    for service in services:
        key = ServiceKey(service.metadata.namespace, service.metadata.name)
        wanted[key] = plan.plan(service, by_service.get(key, ()), node=node, before=places)
    settled, _ = plan.settle(RuleSet(), wanted)
    rules = RuleSet()
    for key, found in settled.items():
        rules.replace(key, found)
    return rules


def lines(rules: RuleSet) -> Iterator[str]:
    """A RuleSet, Service by Service."""
    for _, ports in sorted(rules.services.items()):
        title = ""
        for frontend, port in sorted(ports.items(), key=lambda item: (item[1].title, item[1].kind, item[0])):
            if port.title != title:
                title = port.title
                yield title
            yield f"  {_at(frontend)}  {port.kind}{_conditions(port)}"
            yield from (f"    -> {backend}" for backend in _targets(port))


def counted(key: ServiceKey, rules: RuleSet, ways: Iterable[Way]) -> Iterator[str]:
    """One Service as the kernel has it: each address, its endpoints, and how many connections each was given."""
    found: dict[Frontend, list[Way]] = {}
    for way in ways:
        found.setdefault(way.frontend, []).append(way)
    for frontend, port in sorted(rules.services.get(key, {}).items(), key=lambda item: (item[1].kind, item[0])):
        yield f"{_at(frontend)}  {port.kind}  {port.title}{_conditions(port)}"
        wanted = dict.fromkeys((*port.backends, *port.local), False)
        for way in found.get(frontend, ()):
            note = "" if way.backend in wanted else "  (not wanted)"
            wanted[way.backend] = True
            where = "  for clients outside" if way.outside else ""
            yield f"  -> {_target(way.backend)}  {way.connections} connections{where}{note}"
        yield from (f"  -> {_target(backend)}  missing in the kernel" for backend, seen in wanted.items() if not seen)


def _places(ways: Iterable[Way]) -> Mapping[Frontend, PortRules]:
    rows: dict[Frontend, dict[bool, list[Backend]]] = {}
    for way in ways:
        rows.setdefault(way.frontend, {}).setdefault(way.outside, []).append(way.backend)
    return {
        frontend: PortRules(backends=tuple(found.get(False, ())), local=tuple(found.get(True, ())))
        for frontend, found in rows.items()
    }


def _conditions(port: PortRules) -> str:
    words = []
    if port.local_only:
        words.append("source kept, endpoints here only for clients outside")
    if port.affinity:
        words.append(f"clients stay for {port.affinity} s")
    if port.sources is not None:
        words.append(f"only from {', '.join(port.sources) or 'nobody'}")
    if not port.backends:
        words.append("dropped: no endpoint here" if port.drop else "refused: no endpoint")
    return f"  [{'; '.join(words)}]" if words else ""


def _targets(port: PortRules) -> Iterator[str]:
    for backend in sorted({*port.backends, *port.local}):
        here = port.local_only and backend in port.local
        yield f"{_target(backend)}{'  here' if here else ''}"


def _at(frontend: Frontend) -> str:
    return f"{_target(Backend(frontend.address, frontend.port))}/{frontend.protocol}"


def _target(backend: Backend) -> str:
    address = f"[{backend.address}]" if ":" in backend.address else backend.address
    return f"{address}:{backend.port}"
