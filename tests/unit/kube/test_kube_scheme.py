"""The scheme table: names, paths, look-ups, and what discovery says of subresources."""

from __future__ import annotations

import pytest

from kube import scheme


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (scheme.PODS.path(), "/api/v1/pods"),
        (scheme.PODS.path(namespace="a"), "/api/v1/namespaces/a/pods"),
        (scheme.PODS.path(namespace="a", name="b"), "/api/v1/namespaces/a/pods/b"),
        (scheme.PODS.path(namespace="a", name="b", subresource="log"), "/api/v1/namespaces/a/pods/b/log"),
        (scheme.NODES.path(name="n"), "/api/v1/nodes/n"),
        (scheme.NODES.path(namespace="ignored", name="n"), "/api/v1/nodes/n"),
        (scheme.NAMESPACES.path(name="n", subresource="finalize"), "/api/v1/namespaces/n/finalize"),
        (scheme.DEPLOYMENTS.path(namespace="a"), "/apis/apps/v1/namespaces/a/deployments"),
        (scheme.LEASES.path(namespace="a", name="b"), "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"),
    ],
)
def test_path_of_a_resource(path: str, expected: str) -> None:
    assert path == expected


def test_names_of_core_and_grouped_resources() -> None:
    assert (scheme.PODS.api_version, scheme.PODS.group_resource, scheme.PODS.group_kind) == ("v1", "pods", "Pod")
    deployments = scheme.DEPLOYMENTS
    assert deployments.api_version == "apps/v1"
    assert deployments.group_resource == "deployments.apps"
    assert deployments.group_kind == "Deployment.apps"
    assert deployments.list_kind == "DeploymentList"


def test_every_resource_is_found_by_kind_and_by_plural() -> None:
    for resource in scheme.RESOURCES:
        assert scheme.by_kind(resource.api_version, resource.kind) is resource
        assert scheme.by_plural(resource.group, resource.version, resource.plural) is resource


def test_an_unknown_kind_or_plural_is_none() -> None:
    assert scheme.by_kind("v1", "Deployment") is None
    assert scheme.by_plural("apps", "v1", "pods") is None


def test_no_two_resources_share_a_kind_or_a_plural_in_one_group() -> None:
    kinds = [(resource.api_version, resource.kind) for resource in scheme.RESOURCES]
    plurals = [(resource.api_version, resource.plural) for resource in scheme.RESOURCES]
    assert len(set(kinds)) == len(kinds)
    assert len(set(plurals)) == len(plurals)


def test_no_two_resources_share_a_short_name_except_the_two_faces_of_events() -> None:
    owners: dict[str, str] = {}
    for resource in scheme.RESOURCES:
        for short in resource.short_names:
            assert owners.setdefault(short, resource.plural) == resource.plural


@pytest.mark.parametrize(
    ("short", "plural"),
    [
        ("po", "pods"),
        ("svc", "services"),
        ("ep", "endpoints"),
        ("cm", "configmaps"),
        ("ns", "namespaces"),
        ("no", "nodes"),
        ("sa", "serviceaccounts"),
        ("deploy", "deployments"),
        ("rs", "replicasets"),
        ("pc", "priorityclasses"),
        ("netpol", "networkpolicies"),
        ("ip", "ipaddresses"),
    ],
)
def test_short_name(short: str, plural: str) -> None:
    assert {resource.plural for resource in scheme.RESOURCES if short in resource.short_names} == {plural}


def test_the_all_category_holds_what_kubectl_get_all_shows() -> None:
    shown = {resource.plural for resource in scheme.RESOURCES if "all" in resource.categories}
    assert shown == {
        *("pods", "services", "replicationcontrollers"),
        *("deployments", "replicasets", "statefulsets", "daemonsets"),
        *("jobs", "cronjobs"),
    }


def test_both_kinds_of_event_are_kept_in_one_place() -> None:
    assert scheme.EVENTS_V1.storage_key == scheme.EVENTS.storage_key == "events"


def test_every_other_resource_is_kept_in_its_own_place() -> None:
    others = [resource for resource in scheme.RESOURCES if resource is not scheme.EVENTS_V1]
    keys = [resource.storage_key for resource in others]
    assert keys == [resource.group_resource for resource in others]
    assert len(set(keys)) == len(keys)


def test_reviews_can_only_be_created() -> None:
    reviews = [resource for resource in scheme.RESOURCES if resource.plural.endswith("reviews")]
    assert len(reviews) == 6
    assert all(resource.virtual and resource.verbs == ("create",) for resource in reviews)


def test_singular_of_endpoints_keeps_its_s() -> None:
    assert scheme.ENDPOINTS.singular == "endpoints"
    assert scheme.ENDPOINT_SLICES.singular == "endpointslice"


def test_namespaces_cannot_be_deleted_as_a_collection() -> None:
    assert "deletecollection" not in scheme.NAMESPACES.verbs
    assert "deletecollection" in scheme.PODS.verbs


@pytest.mark.parametrize(
    ("resource", "name", "group", "kind", "verbs"),
    [
        (scheme.PODS, "status", "", "Pod", ("get", "patch", "update")),
        (scheme.PODS, "log", "", "Pod", ("get",)),
        (scheme.PODS, "exec", "", "PodExecOptions", ("create", "get")),
        (scheme.PODS, "binding", "", "Binding", ("create",)),
        (scheme.PODS, "eviction", "policy", "Eviction", ("create",)),
        (scheme.DEPLOYMENTS, "scale", "autoscaling", "Scale", ("get", "patch", "update")),
        (scheme.DEPLOYMENTS, "status", "apps", "Deployment", ("get", "patch", "update")),
        (scheme.SERVICE_ACCOUNTS, "token", "authentication.k8s.io", "TokenRequest", ("create",)),
        (scheme.NAMESPACES, "finalize", "", "Namespace", ("update",)),
        (scheme.NODES, "proxy", "", "NodeProxyOptions", ("get",)),
    ],
)
def test_what_a_subresource_speaks(
    resource: scheme.Resource, name: str, group: str, kind: str, verbs: tuple[str, ...]
) -> None:
    found = scheme.subresource(resource, name=name)
    assert found is not None
    assert (found.group, found.kind, found.verbs) == (group, kind, verbs)


def test_a_resource_does_not_speak_a_subresource_it_does_not_list() -> None:
    assert scheme.subresource(scheme.SERVICES, name="exec") is None


def test_group_versions_start_with_core_and_cover_every_resource_once() -> None:
    groups = scheme.group_versions()
    assert groups[0] == ("", "v1")
    assert len(set(groups)) == len(groups)
    assert sum(len(list(scheme.in_group(*group))) for group in groups) == len(scheme.RESOURCES)
