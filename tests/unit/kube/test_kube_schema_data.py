"""The schema data: fresh, complete, small, in our own words; and what OpenAPI makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from kube import schema, scheme
from kube.schema import build, descriptions

UPSTREAM = build.source()
COMMITTED = build.TARGET.read_bytes()
DEFINITIONS = json.loads(COMMITTED)


def document(group: str, version: str) -> dict[str, Any]:
    return json.loads(schema.openapi_v3(group, version))


CORE = document("", "v1")
APPS = document("apps", "v1")


def test_a_fresh_build_equals_the_committed_file() -> None:
    assert build.build(UPSTREAM) == COMMITTED


def test_the_committed_file_is_small_and_has_no_sentences_of_upstream() -> None:
    assert len(COMMITTED) < 400_000
    assert b'"description":"' not in COMMITTED


def test_our_descriptions_are_not_upstreams() -> None:
    theirs = {
        str(item.get("description", "")).strip().lower()
        for definition in UPSTREAM.values()
        for item in (definition, *definition.get("properties", {}).values())
    }
    texts = yaml.safe_load((build.TARGET.parent / "descriptions.yaml").read_text())
    ours = {text.strip().lower() for fields in texts.values() for text in fields.values() if len(text) > 20}
    assert not ours & theirs
    assert len(ours) > 150


def test_descriptions_speak_only_of_types_and_fields_there_are() -> None:
    fields: dict[str, set[str]] = {}
    for name, definition in DEFINITIONS.items():
        fields.setdefault(name.rpartition(".")[2], {""}).update(definition.get("properties", ()))
    texts = descriptions.load().by_type
    for kind in texts.keys() - {"*"}:
        assert set(texts[kind]) <= fields[kind], kind


def test_every_reference_leads_to_a_definition() -> None:
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            here = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return here.union(*(references(value) for value in node.values()))
        return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()

    assert references(DEFINITIONS) <= DEFINITIONS.keys()


def test_every_kind_of_the_scheme_is_described() -> None:
    texts = descriptions.load()
    assert [resource.kind for resource in scheme.RESOURCES if not texts.kind(resource.kind)] == []


@pytest.mark.parametrize(("group", "version"), scheme.group_versions(), ids=lambda part: part or "core")
def test_each_group_version_has_a_document_whose_references_resolve(group: str, version: str) -> None:
    text = schema.openapi_v3(group, version).decode()
    found = json.loads(text)
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= found["components"]["schemas"].keys()
    assert found["openapi"] == "3.0.0"
    assert found["info"]["title"] == "Kubernetes"


def test_a_group_version_nobody_serves_raises() -> None:
    with pytest.raises(schema.UnknownKind, match="no resource is served in apps/v2"):
        schema.openapi_v3("apps", "v2")


def test_the_patch_operation_has_the_parameter_kubectl_looks_for() -> None:
    for resource in scheme.RESOURCES:
        if "patch" not in resource.verbs:
            continue
        path = resource.path(namespace="{namespace}") + "/{name}"
        patch = document(resource.group, resource.version)["paths"][path]["patch"]
        assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
        assert patch["x-kubernetes-group-version-kind"]["kind"] == resource.kind
        assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]


def test_create_and_replace_take_field_validation_too() -> None:
    paths = APPS["paths"]
    collection = paths["/apis/apps/v1/namespaces/{namespace}/deployments"]
    one = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]
    for operation in (collection["post"], one["put"]):
        assert {"dryRun", "fieldManager", "fieldValidation"} <= {item["name"] for item in operation["parameters"]}


def test_operations_say_their_action_and_kind() -> None:
    paths = CORE["paths"]
    pods = paths["/api/v1/namespaces/{namespace}/pods"]
    assert {method: pods[method]["x-kubernetes-action"] for method in ("get", "post", "delete")} == {
        "get": "list",
        "post": "post",
        "delete": "deletecollection",
    }
    assert paths["/api/v1/pods"]["get"]["x-kubernetes-action"] == "list"
    one = paths["/api/v1/namespaces/{namespace}/pods/{name}"]
    assert {method for method in one if method != "parameters"} == {"get", "put", "patch", "delete"}
    gvk = {"group": "", "version": "v1", "kind": "Pod"}
    assert all(one[method]["x-kubernetes-group-version-kind"] == gvk for method in ("get", "put", "patch", "delete"))


def test_subresources_have_paths_with_their_own_kind() -> None:
    paths = APPS["paths"]
    scale = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]
    assert scale["get"]["x-kubernetes-group-version-kind"]["kind"] == "Scale"
    assert set(scale) == {"get", "patch", "put", "parameters"}
    exec_ = CORE["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]
    assert exec_["post"]["x-kubernetes-action"] == "connect"


def test_path_parameters_are_declared_where_the_path_has_them() -> None:
    for path, item in CORE["paths"].items():
        declared = {parameter["name"] for parameter in item.get("parameters", ())}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path


def test_cluster_scoped_resources_have_no_namespace_in_their_path() -> None:
    assert "/api/v1/nodes/{name}" in CORE["paths"]
    assert not [path for path in CORE["paths"] if "{namespace}/nodes" in path]


def test_virtual_kinds_are_posted_only() -> None:
    paths = document("authorization.k8s.io", "v1")["paths"]
    assert set(paths["/apis/authorization.k8s.io/v1/subjectaccessreviews"]) == {"post"}
    local = paths["/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"]
    assert set(local) == {"post", "parameters"}


def test_component_schemas_carry_kinds_merge_keys_and_descriptions() -> None:
    schemas = APPS["components"]["schemas"]
    deployment = schemas["io.k8s.api.apps.v1.Deployment"]
    gvk = {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert deployment["x-kubernetes-group-version-kind"] == [gvk]
    assert deployment["properties"]["spec"]["allOf"] == [
        {"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}
    ]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert containers["description"].startswith("The main containers")
    assert deployment["description"]


def test_numbers_or_text_and_quantities_keep_both_types() -> None:
    schemas = CORE["components"]["schemas"]
    port = schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert port["format"] == "int-or-string"
    assert {option["type"] for option in port["oneOf"]} == {"string", "integer"}
    amount = schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    assert {option["type"] for option in amount["oneOf"]} == {"string", "number"}


def test_no_schema_is_widened_with_null() -> None:
    assert '"null"' not in schema.openapi_v3("", "v1").decode()
    assert b'"null"' not in COMMITTED


def test_the_revision_is_a_digest_of_the_data() -> None:
    assert len(schema.revision()) == 64
    assert schema.revision() == schema.revision().upper()


def test_fields_tell_list_types_for_later_server_side_apply() -> None:
    catalog = schema.catalog()
    service = catalog.shape("io.k8s.api.core.v1.ServiceSpec")
    ports = service.fields["ports"]
    assert (ports.list_type, ports.list_map_keys, ports.merge_key) == ("map", ("port", "protocol"), "port")
    assert service.fields["selector"].map_type == "atomic"
