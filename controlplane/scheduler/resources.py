"""What a pod asks for and what a node has, as plain integers. Pure.

Units: cpu in milli-cores, everything else in whole units (bytes, devices, pods), rounded up.
"""

from collections.abc import Iterable, Mapping

from controlplane.projection import Container, PodSpec, Quantity
from kube import quantity

CPU, MEMORY, PODS = "cpu", "memory", "pods"
DEFAULT_MILLI_CPU = 100  # what a container without a request counts as, in scores only
DEFAULT_MEMORY = 200 << 20
Amounts = dict[str, int]


def amounts(quantities: Mapping[str, Quantity]) -> Amounts:
    """Integers for a resource list; what cannot be read counts as nothing."""
    return {name: _amount(name, text) for name, text in quantities.items()}


def _amount(name: str, text: Quantity) -> int:
    try:
        parsed = quantity.parse(text)
    except quantity.QuantityError:
        return 0
    return parsed.milli() if name == CPU else parsed.value()


def pod_request(spec: PodSpec) -> Amounts:
    """What must be free on a node: containers and sidecars together, or the hungriest moment of initialisation.

    An init container runs beside the sidecars started before it. Pod-level requests win over the sum; overhead is
    added to everything.
    """
    total = _request(spec, default=False)
    if spec.resources:
        total |= amounts(spec.resources.requests)
    _add(total, amounts(spec.overhead))
    return {name: amount for name, amount in total.items() if amount}


def scored_request(spec: PodSpec) -> tuple[int, int]:
    """(milli-cpu, memory) for scores, in which containers without requests do not count as free."""
    total = _request(spec, default=True)
    if spec.resources:
        total |= amounts(spec.resources.requests)
    _add(total, amounts(spec.overhead))
    return total.get(CPU, 0), total.get(MEMORY, 0)


def _request(spec: PodSpec, *, default: bool) -> Amounts:
    running = _sum(spec.containers, default=default)
    peak: Amounts = {}
    sidecars: Amounts = {}
    for container in spec.init_containers:
        need = _container(container, default=default)
        if container.restart_policy == "Always":
            _add(sidecars, need)
            _raise(peak, sidecars)
        else:
            _add(need, sidecars)
            _raise(peak, need)
    _add(running, sidecars)
    _raise(running, peak)
    return running


def _sum(containers: Iterable[Container], *, default: bool) -> Amounts:
    total: Amounts = {}
    for container in containers:
        _add(total, _container(container, default=default))
    return total


def _container(container: Container, *, default: bool) -> Amounts:
    found = amounts(container.resources.requests)
    if default:
        found.setdefault(CPU, DEFAULT_MILLI_CPU)
        found.setdefault(MEMORY, DEFAULT_MEMORY)
    return found


def _add(total: Amounts, more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _raise(total: Amounts, floor: Amounts) -> None:
    for name, amount in floor.items():
        if amount > total.get(name, 0):
            total[name] = amount
