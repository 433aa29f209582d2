"""UDP connections that still lead to an endpoint which is gone: which ones are to be forgotten.

A UDP client keeps its port, so its packets would follow a stale entry for as long as it sends. The choice is PURE;
`reconcile` is one dump of the kernel's entries a change (`kube.runtime.conntrack`).
"""

from collections.abc import Mapping

from kube.runtime import conntrack
from kube.runtime.conntrack import Entry
from kube.runtime.nfelements import PROTOCOLS
from proxy.rules.plan import Backend, Changes, Frontend, PortRules


def affected(changes: Changes) -> dict[Frontend, PortRules]:
    """The UDP frontends of a change whose old entries may be wrong, with what is right now.

    A frontend that has no endpoint any more is left alone, as upstream does; a gone frontend is not.
    """
    return {
        frontend: new or PortRules()
        for frontend, (old, new) in changes.ports.items()
        if frontend.protocol == "udp" and (new is None or new.backends or new.local)
    }


def stale(entry: Entry, wanted: Mapping[Frontend, PortRules]) -> bool:
    """Whether an entry is of one of these frontends and leads to none of its serving endpoints. PURE."""
    if entry.protocol != PROTOCOLS["udp"]:
        return False
    rules = wanted.get(Frontend(entry.original.destination, "udp", entry.original.destination_port))
    if rules is None:
        return False
    backend = Backend(entry.reply.source, entry.reply.source_port)
    return backend not in rules.lingering and backend not in rules.backends and backend not in rules.local


def reconcile(wanted: Mapping[Frontend, PortRules]) -> dict[int, int]:
    """Deletes the stale entries of these frontends in this network namespace; how many by IP version.

    Blocking; raises OSError.
    """
    versions = {frontend.version for frontend in wanted}
    return {version: conntrack.delete(version, lambda entry: stale(entry, wanted)) for version in sorted(versions)}
