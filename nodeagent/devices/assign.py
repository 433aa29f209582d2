"""Which devices a container gets, and who has which. PURE.

A container keeps its devices over its restarts; devices of ended init containers serve those that come after.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from kube import types
from nodeagent import errors
from nodeagent.resources import qos

HEALTHY: Final = "Healthy"
Devices = Mapping[str, Mapping[str, str]]
"""Health by device, by resource."""
Held = dict[str, dict[str, dict[str, tuple[str, ...]]]]
"""Devices by resource, by container, by the pod's uid."""


class NoDeviceError(errors.NodeagentError):
    """A container asks for more devices than are free and healthy."""


def wanted(container: types.Container, known: Iterable[str]) -> dict[str, int]:
    """How many of each resource of the plugins a container asks for."""
    limits = qos.limits(container)
    return {name: limits[name].value() for name in known if name in limits and limits[name].value() > 0}


def choose(pod: types.Pod, container: types.Container, *, devices: Devices, held: Held) -> dict[str, tuple[str, ...]]:
    """The devices of a container: those it has, else some that are free. Raises NoDeviceError."""
    uid = pod.metadata.uid
    own = held.get(uid, {})
    found: dict[str, tuple[str, ...]] = {}
    reusable = [c.name for c in pod.spec.init_containers if not qos.is_sidecar(c) and c.name != container.name]
    for name, count in wanted(container, devices).items():
        if len(had := own.get(container.name, {}).get(name, ())) == count:
            found[name] = had
            continue
        again = [device for each in reusable for device in own.get(each, {}).get(name, ())]
        taken = {
            device
            for owner, containers in held.items()
            for each, resources in containers.items()
            if not (owner == uid and each in reusable)
            for device in resources.get(name, ())
        }
        healthy = [device for device, health in sorted(devices[name].items()) if health == HEALTHY]
        free = [*dict.fromkeys(d for d in again if d in healthy), *(d for d in healthy if d not in again)]
        usable = [device for device in free if device not in taken]
        if len(usable) < count:
            raise NoDeviceError(
                f"requested number of devices unavailable for {name}. Requested: {count}, Available: {len(usable)}"
            )
        found[name] = tuple(usable[:count])
    return found


def amounts(devices: Devices) -> dict[str, tuple[int, int]]:
    """Capacity and what of it pods may have, by resource: all devices, and the healthy ones."""
    return {
        name: (len(healths), sum(health == HEALTHY for health in healths.values())) for name, healths in devices.items()
    }
