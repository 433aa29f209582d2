"""Session affinity: which client was given which endpoint, as elements of the map `affinity`. PURE.

The kernel writes them, we only remove what is no longer right: the endpoint is gone, or the Service has no affinity.
"""

from collections.abc import Iterable, Iterator, Mapping

from proxy.backends.elements import Element
from proxy.rules.plan import Backend, Changes, Frontend, PortRules


def touched(changes: Changes) -> dict[Frontend, PortRules]:
    """The frontends of a change whose notes may be wrong now, with what is right."""
    return {
        frontend: new or PortRules()
        for frontend, (old, new) in changes.ports.items()
        if old is not None and old.affinity and _lost(old, new)
    }


def timeouts(rules: Iterable[PortRules]) -> frozenset[int]:
    """The different times for which somebody is kept, seconds."""
    return frozenset(each.affinity for each in rules if each.affinity)


def stale(notes: Iterable[Element], wanted: Mapping[Frontend, PortRules]) -> Iterator[Element]:
    """The notes about these frontends that lead to none of their endpoints."""
    for note in notes:
        rules = wanted.get(frontend(note))
        if rules is not None and not holds(note, rules):
            yield note


def holds(note: Element, rules: PortRules | None) -> bool:
    """Whether a note is right under these rules."""
    if rules is None or not rules.affinity:
        return False
    backend = Backend(str(note.data[0]), int(note.data[1]))
    # Under a Local policy we cannot tell who was outside: only an endpoint that is right for everybody stays.
    return backend in rules.backends and (not rules.local_only or not rules.local or backend in rules.local)


def frontend(note: Element) -> Frontend:
    """Whom a note is about."""
    _, address, protocol, port = note.key
    return Frontend(str(address), str(protocol), int(port))


def _lost(old: PortRules, new: PortRules | None) -> bool:
    if new is None or not new.affinity or new.local_only != old.local_only:
        return True
    return bool({*old.backends, *old.local} - {*new.backends, *new.local})
