"""QoS class, resource sums and oom_score_adj of a pod, after upstream's qos and resource helpers. PURE."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

from kube import quantity, types

QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]
GUARANTEED: Final[QosClass] = "Guaranteed"
BURSTABLE: Final[QosClass] = "Burstable"
BEST_EFFORT: Final[QosClass] = "BestEffort"
COMPUTE: Final = ("cpu", "memory")
OOM_GUARANTEED: Final = -997
OOM_BEST_EFFORT: Final = 1000
NODE_CRITICAL: Final = 2000001000  # system-node-critical
Amounts = Mapping[str, quantity.Quantity]


def amounts(texts: Mapping[str, str | int | float]) -> dict[str, quantity.Quantity]:
    """A resource list with its quantities parsed."""
    return {name: quantity.parse(text) for name, text in texts.items()}


def requests(container: types.Container) -> dict[str, quantity.Quantity]:
    """Requests of a container; a limit without a request is also the request."""
    return {**amounts(container.resources.limits), **amounts(container.resources.requests)}


def limits(container: types.Container) -> dict[str, quantity.Quantity]:
    """Limits of a container."""
    return amounts(container.resources.limits)


def is_sidecar(container: types.Container) -> bool:
    """Whether an init container keeps running beside the main ones."""
    return container.restart_policy == "Always"


def pod_requests(pod: types.Pod) -> dict[str, quantity.Quantity]:
    """What the pod needs at its hungriest moment: main containers and sidecars together, or one init container
    with the sidecars before it, whichever is more, per resource; plus overhead."""
    return peak(pod, requests)


def pod_limits(pod: types.Pod) -> dict[str, quantity.Quantity]:
    """The same over limits; of use only where every container has one."""
    return peak(pod, limits)


def peak(pod: types.Pod, read: Callable[[types.Container], Amounts]) -> dict[str, quantity.Quantity]:
    """Largest simultaneous sum of `read(container)` over the life of the pod."""
    steady: dict[str, quantity.Quantity] = {}
    for container in pod.spec.containers:
        add(steady, read(container))
    sidecars: dict[str, quantity.Quantity] = {}
    most: dict[str, quantity.Quantity] = {}
    for container in pod.spec.init_containers:
        own = dict(sidecars)
        add(own, read(container))
        raise_to(most, own)
        if is_sidecar(container):
            sidecars = own
    add(steady, sidecars)
    raise_to(most, steady)
    add(most, amounts(pod.spec.overhead))
    return most


def add(total: dict[str, quantity.Quantity], more: Amounts) -> None:
    """Adds `more` to `total`, per resource."""
    for name, amount in more.items():
        total[name] = total[name] + amount if name in total else amount


def raise_to(total: dict[str, quantity.Quantity], other: Amounts) -> None:
    """Raises each resource of `total` to that of `other` where that is more."""
    for name, amount in other.items():
        if name not in total or total[name] < amount:
            total[name] = amount


def qos_class(pod: types.Pod) -> QosClass:
    """Guaranteed: every container has cpu and memory limits equal to its requests. BestEffort: none has any."""
    every = [*pod.spec.containers, *pod.spec.init_containers]
    if not any(set(COMPUTE) & positive({**requests(c), **limits(c)}) for c in every):
        return BEST_EFFORT
    return GUARANTEED if all(fully_limited(c) for c in every) else BURSTABLE


def fully_limited(container: types.Container) -> bool:
    """Whether cpu and memory are limited, and requested in full."""
    limit, request = limits(container), requests(container)
    return all(name in positive(limit) and request[name] == limit[name] for name in COMPUTE)


def positive(found: Amounts) -> set[str]:
    """The resources of which there is more than nothing."""
    return {name for name, amount in found.items() if amount.milli() > 0}


def oom_score_adj(pod: types.Pod, container: types.Container, *, memory_capacity: int) -> int:
    """How readily the kernel kills this container when memory runs out (`memory_capacity` in bytes)."""
    klass = qos_class(pod)
    if klass == GUARANTEED or (pod.spec.priority or 0) >= NODE_CRITICAL:
        return OOM_GUARANTEED
    if klass == BEST_EFFORT:
        return OOM_BEST_EFFORT
    score = burstable_score(container, memory_capacity=memory_capacity)
    if is_sidecar(container):
        mains = [burstable_score(c, memory_capacity=memory_capacity) for c in pod.spec.containers]
        score = min([score, *mains])
    return score


def burstable_score(container: types.Container, *, memory_capacity: int) -> int:
    """1000 less the requested share of the machine in thousandths, held between the classes around it."""
    request = requests(container).get("memory")
    asked = request.value() if request else 0
    return max(3, min(999, 1000 - 1000 * asked // max(1, memory_capacity)))


def total(pods: Iterable[types.Pod]) -> dict[str, quantity.Quantity]:
    """Requests of several pods together."""
    found: dict[str, quantity.Quantity] = {}
    for pod in pods:
        add(found, pod_requests(pod))
    return found
