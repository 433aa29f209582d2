"""What is legal in a pod spec and still most likely a mistake: the texts a client prints as warnings.

Owns these hints. Must not know validation: nothing here refuses anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from controlplane.apiserver.registry import names, validate_scheduling
from controlplane.apiserver.registry.field import JSON
from controlplane.apiserver.registry.pod_defaults import CONTAINER_LISTS
from kube import quantity

_ORDER = (CONTAINER_LISTS[0], CONTAINER_LISTS[1], CONTAINER_LISTS[2])
_OLD_LABELS: Mapping[str, str] = MappingProxyType(
    {
        old: f'deprecated since {version}; use "{new}" instead'
        for old, version, new in (
            ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
            ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
            ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
            ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
            ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
        )
    }
)
_OLD_ANNOTATIONS: Mapping[str, str] = MappingProxyType(
    {
        old: f'non-functional in {version}+; use the "{new}" field instead'
        for old, version, new in (
            ("scheduler.alpha.kubernetes.io/critical-pod", "v1.16", "priorityClassName"),
            ("security.alpha.kubernetes.io/sysctls", "v1.11", "sysctls"),
            ("security.alpha.kubernetes.io/unsafe-sysctls", "v1.11", "sysctls"),
        )
    }
)
_OLD_VOLUMES: Mapping[str, str] = MappingProxyType(
    {
        "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
        "gitRepo": "deprecated in v1.11",
        "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
        "flocker": "deprecated in v1.22, non-functional in v1.25+",
        "storageos": "deprecated in v1.22, non-functional in v1.25+",
        "quobyte": "deprecated in v1.22, non-functional in v1.25+",
        "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
        "cephfs": "deprecated in v1.28, non-functional in v1.31+",
        "rbd": "deprecated in v1.28, non-functional in v1.31+",
    }
)
_BYTES = ("memory", "ephemeral-storage")


def name(obj: JSON, *, use: str) -> list[str]:
    """A name that pods take as their host name should be a label; `use` says how it is used."""
    text = (obj.get("metadata") or {}).get("name") or ""
    faults = names.dns_label(text)
    if not text or not faults:
        return []
    why = "which can result in surprising behavior; a DNS label is recommended"
    return [f"metadata.name: this is used in {use}, {why}: [{' '.join(faults)}]"]


def of(meta: JSON, spec: JSON, *, at: str = "") -> list[str]:
    """The hints on a pod (`at` is empty) or on the template at a path that ends in a dot."""
    found = list(_placement(f"{at}spec", spec))
    notes = meta.get("annotations") or {}
    found += [f"{at}metadata.annotations[{key}]: {why}" for key, why in _OLD_ANNOTATIONS.items() if key in notes]
    for index, volume in enumerate(spec.get("volumes") or ()):
        path = f"{at}spec.volumes[{index}]"
        found += [f"{path}.{key}: {_OLD_VOLUMES[key]}" for key in volume if key in _OLD_VOLUMES]
    found += _doubles(f"{at}spec.hostAliases", spec.get("hostAliases") or [], "ip")
    found += _doubles(f"{at}spec.imagePullSecrets", spec.get("imagePullSecrets") or [], "name")
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            found.append(f'{at}spec.imagePullSecrets[{index}].name: invalid empty name ""')
    for path, container in _containers(f"{at}spec", spec):
        found += [*_amounts(f"{path}.resources", container), *_variables(f"{path}.env", container.get("env") or [])]
    found += _ports(f"{at}spec", spec)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        why = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{at}spec.terminationGracePeriodSeconds: {why}")
    return found


def _containers(path: str, spec: JSON) -> Iterator[tuple[str, JSON]]:
    for key in _ORDER:
        for index, container in enumerate(spec.get(key) or ()):
            yield f"{path}.{key}[{index}]", container


def _placement(path: str, spec: JSON) -> Iterator[str]:
    for key in spec.get("nodeSelector") or ():
        if key in _OLD_LABELS:
            yield f"{path}.nodeSelector[{key}]: {_OLD_LABELS[key]}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    needed = (affinity.get(validate_scheduling.REQUIRED) or {}).get("nodeSelectorTerms") or ()
    for index, term in enumerate(needed):
        where = f"{path}.affinity.nodeAffinity.{validate_scheduling.REQUIRED}.nodeSelectorTerms[{index}]"
        yield from _term(where, term)
    for index, item in enumerate(affinity.get(validate_scheduling.PREFERRED) or ()):
        where = f"{path}.affinity.nodeAffinity.{validate_scheduling.PREFERRED}[{index}].preference"
        yield from _term(where, item.get("preference") or {})
    for index, item in enumerate(spec.get("topologySpreadConstraints") or ()):
        where, key = f"{path}.topologySpreadConstraints[{index}]", item.get("topologyKey")
        if key in _OLD_LABELS:
            yield f"{where}.topologyKey: {key} is {_OLD_LABELS[key]}"
        if item.get("labelSelector") is None:
            yield f"{where}.labelSelector: a null labelSelector results in matching no pod"


def _term(path: str, term: JSON) -> Iterator[str]:
    for index, item in enumerate(term.get("matchExpressions") or ()):
        if item.get("key") in _OLD_LABELS:
            yield f"{path}.matchExpressions[{index}].key: {item['key']} is {_OLD_LABELS[item['key']]}"


def _doubles(path: str, items: list[JSON], key: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        value = item.get(key) or ""
        if value in seen:
            yield f'{path}[{index}].{key}: duplicate {key} "{value}"'
        seen.add(value)


def _amounts(path: str, container: JSON) -> Iterator[str]:
    resources = container.get("resources") or {}
    for what in _BYTES:
        for kind in ("limits", "requests"):
            value = (resources.get(kind) or {}).get(what)
            if value is not None and quantity.parse(value).milli() % 1000:
                yield f'{path}.{kind}[{what}]: fractional byte value "{value}" is invalid, must be an integer'


def _variables(path: str, variables: list[JSON]) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(variables):
        title, value = item.get("name") or "", item.get("value") or ""
        again = f"$({title})"
        if title in seen and ("valueFrom" in item or value == again or again not in value):
            yield f'{path}[{index}]: hides previous definition of "{title}", which may be dropped when using apply'
        seen.add(title)


def _ports(path: str, spec: JSON) -> Iterator[str]:
    seen: dict[tuple[object, object], list[tuple[str, JSON]]] = {}
    titles: dict[str, str] = {}
    for where, container in _containers(path, spec):
        for index, port in enumerate(container.get("ports") or ()):
            spot = f"{where}.ports[{index}]"
            others = seen.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for other, known in others:
                yield from _clash(spot, port, other, known)
            others.append((spot, port))
            if title := port.get("name"):
                if title in titles:
                    yield (
                        f'{spot}: duplicate port name "{title}" with {titles[title]}, services and probes that select '
                        f"ports by name will use {titles[title]}"
                    )
                else:
                    titles[title] = spot


def _clash(spot: str, port: JSON, other: str, known: JSON) -> Iterator[str]:
    mine, theirs = port.get("hostPort") or 0, known.get("hostPort") or 0
    here, there = port.get("hostIP") or "", known.get("hostIP") or ""
    if (mine, here) == (theirs, there):
        yield f"{spot}: duplicate port definition with {other}"
    elif not (mine and theirs):
        yield f"{spot}: overlapping port definition with {other}"
    elif mine == theirs and not (here and there):
        yield f"{spot}: dangerously ambiguous port definition with {other}"
