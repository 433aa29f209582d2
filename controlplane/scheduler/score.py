"""Scores: which of the nodes that will do is best. Pure, with upstream's plugin names, scales and weights.

Each score gives 0 to 100 per node before its weight. Those that would give every node the same are left out.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from controlplane import tolerations
from controlplane.projection import JSON, Toleration
from controlplane.scheduler import affinity, interpod, spread
from controlplane.scheduler.resources import CPU, MEMORY
from controlplane.scheduler.snapshot import NodeInfo, PodInfo, Snapshot

MAX = 100
WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "NodeResourcesFit": 1,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}
_MB = 1024 * 1024
SMALL_IMAGE, LARGE_IMAGE = 23 * _MB, 1000 * _MB  # per container; between them image sizes count


Score = Callable[[Sequence[NodeInfo]], list[int]]


def total(info: PodInfo, nodes: Sequence[NodeInfo], world: Snapshot, *, total_nodes: int) -> list[int]:
    """The weighted sum for each node."""
    sums = [0] * len(nodes)
    for plugin, score in prepare(info, nodes, world, total_nodes=total_nodes).items():
        weight = WEIGHTS[plugin]
        for position, value in enumerate(score(nodes)):
            sums[position] += weight * value
    return sums


def prepare(info: PodInfo, nodes: Sequence[NodeInfo], world: Snapshot, *, total_nodes: int) -> dict[str, Score]:
    """The scores that can tell these nodes apart for a pod."""
    spec = info.pod.spec
    found: dict[str, Score] = {"NodeResourcesFit": lambda on: least_allocated(info, on)}
    if info.request.get(CPU) or info.request.get(MEMORY):
        found["NodeResourcesBalancedAllocation"] = lambda on: balanced_allocation(info, on)
    if any(taint.effect == "PreferNoSchedule" for on in nodes if on.node for taint in on.node.spec.taints):
        found["TaintToleration"] = lambda on: taint_toleration(spec.tolerations, on)
    preferred = affinity.preferred_terms(spec)
    if preferred:
        found["NodeAffinity"] = lambda on: node_affinity(preferred, on)
    names = [_image_name(container.image) for container in (*spec.init_containers, *spec.containers)]
    if any(name in world.images for name in names):
        found["ImageLocality"] = lambda on: image_locality(names, on, world.images, total_nodes=total_nodes)
    counted = _spread_counts(info, world)
    if counted:
        found["PodTopologySpread"] = lambda on: spread.scores(counted, _labels(on))
    drawn = _attraction(info, world)
    if drawn:
        found["InterPodAffinity"] = lambda on: interpod.scores(drawn, _labels(on))
    return found


def _labels(nodes: Sequence[NodeInfo]) -> list[Mapping[str, str]]:
    return [on.node.metadata.labels if on.node else {} for on in nodes]


def _spread_counts(info: PodInfo, world: Snapshot) -> list[tuple[str, int, Mapping[str, int]]]:
    """Pods of the kind by domain: as the pod asks, else its siblings (same controller) over nodes and zones."""
    wanted = spread.constraints(info.pod, hard=False)
    if wanted:
        domains = spread.count(info.pod, wanted, world.placed())
        return [(d.constraint.topology_key, d.constraint.max_skew, d.counts) for d in domains]
    siblings = world.siblings.get(info.controller)
    if not siblings or info.pod.spec.topology_spread_constraints:
        return []
    return [(key, max_skew, _by_domain(siblings, key, world)) for key, max_skew in spread.DEFAULTS]


def _by_domain(siblings: Mapping[str, int], key: str, world: Snapshot) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for name, count in siblings.items():
        node = world.infos[name].node
        if node and key in node.metadata.labels:
            found[node.metadata.labels[key]] += count
    return found


def _attraction(info: PodInfo, world: Snapshot) -> Mapping[interpod.Place, int]:
    own = info.terms
    prefers = bool(own.with_preferred or own.away_preferred)
    if not prefers and not world.with_terms:
        return {}
    return interpod.attraction(info.pod, own, world.neighbours(only_with_terms=not prefers), world.namespaces)


def least_allocated(info: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
    """The more of cpu and memory is left, the better; pods without requests count as small ones."""
    cpu, memory = info.scored
    scores = []
    for on in nodes:
        free_cpu = _free(on.scored_cpu + cpu, on.allocatable.get(CPU, 0))
        free_memory = _free(on.scored_memory + memory, on.allocatable.get(MEMORY, 0))
        scores.append((free_cpu + free_memory) // 2)
    return scores


def _free(requested: int, capacity: int) -> int:
    return (capacity - requested) * MAX // capacity if capacity and requested <= capacity else 0


def balanced_allocation(info: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
    """The closer the used shares of cpu and memory, the better: 100 less half their distance in percent."""
    cpu, memory = info.request.get(CPU, 0), info.request.get(MEMORY, 0)
    scores = []
    for on in nodes:
        used_cpu = _share(on.requested.get(CPU, 0) + cpu, on.allocatable.get(CPU, 0))
        used_memory = _share(on.requested.get(MEMORY, 0) + memory, on.allocatable.get(MEMORY, 0))
        scores.append(int((1 - abs(used_cpu - used_memory) / 2) * MAX))
    return scores


def _share(requested: int, capacity: int) -> float:
    return min(1.0, requested / capacity) if capacity else 1.0


def taint_toleration(known: Sequence[Toleration], nodes: Sequence[NodeInfo]) -> list[int]:
    """The fewer PreferNoSchedule taints a pod does not tolerate, the better."""
    # Only tolerations of that effect, or of any, speak to it.
    speaking = [t for t in known if t.effect in ("", "PreferNoSchedule")]
    counts = []
    for on in nodes:
        taints = on.node.spec.taints if on.node else ()
        counts.append(len(tolerations.untolerated(speaking, [t for t in taints if t.effect == "PreferNoSchedule"])))
    return _normalized(counts, reverse=True)


def node_affinity(preferred: Sequence[tuple[int, JSON]], nodes: Sequence[NodeInfo]) -> list[int]:
    """The sum of the weights of the preferred terms a node matches."""
    counts = [sum(weight for weight, term in preferred if on.node and affinity.matches(term, on.node)) for on in nodes]
    return _normalized(counts)


def image_locality(
    names: Sequence[str], nodes: Sequence[NodeInfo], images: Mapping[str, Mapping[str, int]], *, total_nodes: int
) -> list[int]:
    """The more of the pod's images a node already has, the better; images that few nodes have count for less."""
    ceiling = LARGE_IMAGE * len(names)
    scores = []
    for on in nodes:
        size = 0
        for name in names:
            holders = images.get(name, {})
            if on.name in holders:
                size += holders[on.name] * len(holders) // max(1, total_nodes)
        size = min(max(size, SMALL_IMAGE), ceiling)
        scores.append(MAX * (size - SMALL_IMAGE) // (ceiling - SMALL_IMAGE))
    return scores


def _normalized(counts: Sequence[int], *, reverse: bool = False) -> list[int]:
    top = max(counts, default=0)
    if not top:
        return [MAX if reverse else 0] * len(counts)
    scaled = [count * MAX // top for count in counts]
    return [MAX - value for value in scaled] if reverse else scaled


def _image_name(image: str) -> str:
    """Images without a tag or digest are :latest."""
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"
