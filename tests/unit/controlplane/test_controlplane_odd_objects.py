"""Objects of every kind filled with odd values of the right types: refused or stored, never a fault of the server."""

import random
from typing import Any

import orjson

from kube import scheme
from kube.schema.catalog import Shape, catalog
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
ROUNDS = 6
TEXTS = ["", "a", "A_b", "-x", "x" * 300, "é", "10.0.0.1", "::1", "80", "a.b/c", "*", "\0", "TCP", "None", "1Gi", "-1"]
ODD: dict[str, list[Any]] = {
    "string": TEXTS,
    "integer": [0, 1, -1, 2**31 - 1, -(2**31), 65536, 80],
    "boolean": [True, False],
    "quantity": ["0", "-1", "100m", "1e3", "999999999999999999999Ei", 5],
    "int-or-string": [0, -1, "http", "200%", "", 70000],
    "time": ["2026-01-01T00:00:00Z"],
    "number": [1.5],
    "any": [{}, [], "x"],
    "base64": ["", "aGk="],
}


def odd(shape: Shape, chance: random.Random, depth: int = 0) -> Any:
    """A value of the shape; the deeper, the fewer fields."""
    if shape.tag == "struct":
        likely = 0.9 if depth == 0 else 0.5 if depth < 4 else 0.2 if depth < 8 else 0.02
        fields = {name: field for name, field in shape.fields.items() if chance.random() < likely}
        return {name: odd(field.shape, chance, depth + 1) for name, field in fields.items()}
    if shape.tag == "list" and shape.item is not None:
        return [odd(shape.item, chance, depth + 1) for _ in range(chance.choice([0, 1, 2]))]
    if shape.tag == "map" and shape.item is not None:
        return {chance.choice(TEXTS): odd(shape.item, chance, depth + 1) for _ in range(chance.choice([0, 1]))}
    return None if chance.random() < 0.03 else chance.choice(ODD.get(shape.tag, TEXTS))


async def test_no_object_of_any_kind_makes_the_server_fail(api: Harness) -> None:
    chance, schemas = random.Random(20261123), catalog()
    headers = [{"content-type": f"application/{kind}+json"} for kind in ("merge-patch", "strategic-merge-patch")]
    faults = []
    for resource in scheme.RESOURCES:
        path = resource.path(namespace="default" if resource.namespaced else None)
        shape = schemas.shape(schemas.definition(resource.group, resource.version, resource.kind))
        for number in range(ROUNDS):
            obj = odd(shape, chance) | {"apiVersion": resource.api_version, "kind": resource.kind}
            if number:
                obj["metadata"] = {"name": f"o{number}"}
            patch = {name: value for name, value in odd(shape, chance).items() if name != "metadata"}
            for method, where, body, more in (
                ("POST", path, obj, {"content-type": "application/json"}),
                ("PUT", f"{path}/o{number}", obj, {"content-type": "application/json"}),
                ("PATCH", f"{path}/o{number}", patch, chance.choice(headers)),
                ("PATCH", f"{path}/o{number}/status", patch, headers[0]),
                ("GET", path, None, {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}),
            ):
                answer = await api.raw(method, where, orjson.dumps(body), headers=more)
                if answer.status >= 500:
                    faults.append((resource.kind, method, orjson.loads(answer.body)["message"]))
    assert not faults
