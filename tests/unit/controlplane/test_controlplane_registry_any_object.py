"""Objects of the right types but with any content: every kind judges them without failing itself."""

import copy
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.apiserver import registry, tables
from kube import schema, scheme
from kube.schema.catalog import Shape, catalog
from kube.scheme import Resource

NOW = datetime(2026, 11, 23, 15, 0, 0, tzinfo=UTC)
KINDS = [resource for resource in scheme.RESOURCES if not resource.virtual]
WORDS = [
    "",
    "a",
    "web",
    "A_",
    "10.0.0.1",
    "None",
    "Always",
    "x/y",
    "-",
    "a.b",
    "ClusterIP",
    "IPv4",
    "RollingUpdate",
    "25%",
]
WORDS += [
    "metadata.name",
    "Never",
    "TCP",
    "fd00::1",
    "10.0.0.0/24",
    "In",
    "ClientIP",
    "LoadBalancer",
    "Local",
    "NodePort",
]
WORDS += [
    "ExternalName",
    "limits.cpu",
    "é",
    "Localhost",
    "Recreate",
    "cpu",
    "memory",
    "hugepages-2Mi",
    "example.com/gpu",
]
LEAVES: dict[str, list[Any]] = {
    "string": WORDS,
    "bytes": ["", "eA==", "eHh4"],
    "integer": [0, 1, -1, 80, 30080, 2**31 - 1, 420],
    "number": [0, 1.5],
    "boolean": [True, False],
    "time": ["2026-11-23T14:00:00Z"],
    "quantity": ["0", "1", "-1", "500m", "1Gi", "1e3", "100u"],
    "int-or-string": [0, 80, "http", "25%", "", -1, "101%"],
    "any": [{}, {"a": None}, []],
}
LIKELY = ("spec", "metadata", "containers", "template", "ports", "name", "status")


def made(shape: Shape, chance: random.Random, *, depth: int = 0) -> Any:
    if shape.tag == "struct":
        share = chance.choice([3, 5, 8]) / max(1, len(shape.fields))
        chosen = {
            name: part.shape
            for name, part in shape.fields.items()
            if depth < 9 and (chance.random() < share or (name in LIKELY and chance.random() < 0.9))
        }
        return {name: made(part, chance, depth=depth + 1) for name, part in chosen.items()}
    if shape.item is not None:
        count = chance.choice([0, 1, 1, 2, 3])
        items = [made(shape.item, chance, depth=depth + 1) for _ in range(count)]
        return items if shape.tag == "list" else {chance.choice(WORDS): item for item in items}
    return chance.choice(LEAVES[shape.tag])


def an_object(resource: Resource, chance: random.Random) -> dict[str, Any]:
    shape = catalog().shape(catalog().definition(resource.group, resource.version, resource.kind))
    obj: dict[str, Any] = made(shape, chance) | {"apiVersion": resource.api_version, "kind": resource.kind}
    obj.setdefault("metadata", {})
    if chance.random() < 0.8:
        obj["metadata"] = {"name": chance.choice(WORDS), "namespace": "default"}
    assert not schema.check(resource.api_version, resource.kind, obj, prune=True).fault
    return obj


@pytest.mark.parametrize("resource", KINDS, ids=lambda resource: resource.group_resource)
def test_any_object_is_defaulted_once_judged_and_shown(resource: Resource) -> None:
    strategy = registry.strategy_for(resource)
    for seed in range(12):
        chance = random.Random(f"{resource.group_resource} {seed}")
        old, new = an_object(resource, chance), an_object(resource, chance)
        strategy.default(old)
        once = copy.deepcopy(old)
        strategy.default(old)
        assert old == once, "defaults are the same the second time"
        report = schema.check(resource.api_version, resource.kind, copy.deepcopy(old))
        assert (report.fault, report.unknown) == ("", ()), "defaults fit the schema"
        strategy.prepare_create(old)
        assert all(str(error) and error.cause() for error in strategy.validate_create(old))
        kept = copy.deepcopy(old)
        strategy.default(new)
        strategy.prepare_update(new, old)
        strategy.validate_update(new, old)
        state = copy.deepcopy(new)
        strategy.prepare_status(state, old)
        strategy.validate_status(state, old)
        assert old == kept, "the stored object is never changed"
        tables.table(strategy, [old, new, state], {}, "None", now=NOW)
        assert all(isinstance(value, str) for value in strategy.field_values(old).values())
