"""Discovery, OpenAPI, health, version, and the limits of the front door."""

import asyncio
from typing import Any

import orjson
import pytest

from controlplane.apiserver import dispatch, frontdoor, negotiate, request
from controlplane.apiserver.health import report
from kube import scheme, status
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


async def test_version_names_the_release_and_ours(api: Harness) -> None:
    code, found = await api.ask("GET", "/version")
    assert (code, found["gitVersion"], found["minor"]) == (200, "v1.36.2+nodeagent.0.1.0", "36")


async def test_plain_discovery_names_every_resource_and_subresource(api: Harness) -> None:
    assert (await api.ask("GET", "/api"))[1]["versions"] == ["v1"]
    _, groups = await api.ask("GET", "/apis")
    assert {"apps", "discovery.k8s.io"} <= {group["name"] for group in groups["groups"]}
    _, apps = await api.ask("GET", "/apis/apps")
    assert apps["preferredVersion"] == {"groupVersion": "apps/v1", "version": "v1"}
    _, core = await api.ask("GET", "/api/v1")
    by_name = {item["name"]: item for item in core["resources"]}
    assert (by_name["pods"]["shortNames"], by_name["pods"]["namespaced"]) == (["po"], True)
    assert by_name["pods/eviction"]["group"] == "policy"
    assert by_name["pods/exec"]["verbs"] == ["create", "get"]
    for path in ("/apis/none", "/apis/apps/v9", "/api/v2"):
        assert (await api.ask("GET", path))[0] == 404


async def test_aggregated_discovery_is_one_document_with_an_etag(api: Harness) -> None:
    answer = await api.raw("GET", "/apis", headers={"accept": AGGREGATED})
    assert answer.headers["content-type"] == AGGREGATED.partition(",")[0]
    found = orjson.loads(answer.body)
    assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    apps = next(item for item in found["items"] if item["metadata"]["name"] == "apps")
    deployments = next(r for r in apps["versions"][0]["resources"] if r["resource"] == "deployments")
    assert deployments["scope"] == "Namespaced"
    assert {sub["subresource"]: sub["responseKind"]["kind"] for sub in deployments["subresources"]} == {
        "scale": "Scale",
        "status": "Deployment",
    }
    again = await api.raw("GET", "/apis", headers={"accept": AGGREGATED, "if-none-match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


async def test_openapi_v3_is_indexed_by_hash(api: Harness) -> None:
    _, index = await api.ask("GET", "/openapi/v3")
    url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    path, _, digest = url.partition("?hash=")
    answer = await api.raw("GET", path, hash=digest)
    document = orjson.loads(answer.body)
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
    assert answer.headers["etag"] == f'"{digest}"'
    assert (await api.ask("GET", "/openapi/v3/apis/none/v1"))[0] == 404


async def test_health_is_told_check_by_check(api: Harness) -> None:
    assert (await api.raw("GET", "/readyz")).body == b"ok"
    api.server.health.add("store", lambda: "disk on fire")
    answer = await api.raw("GET", "/readyz", verbose="")
    assert answer.status == 500
    assert answer.body == b"[+]ping ok\n[-]store failed: disk on fire\nreadyz check failed\n"
    assert (await api.raw("GET", "/livez")).status == 200
    assert (await api.raw("GET", "/readyz", exclude="store")).status == 200
    assert (await api.raw("GET", "/readyz/store")).status == 500
    assert (await api.raw("GET", "/readyz/none")).status == 404


def test_a_passing_check_is_short_unless_asked() -> None:
    assert report("livez", {"ping": None}, verbose=False) == (200, "ok")
    assert report("livez", {"ping": None}, verbose=True) == (200, "[+]ping ok\nlivez check passed\n")


async def test_metrics_count_what_was_asked(api: Harness) -> None:
    assert (await api.raw("GET", "/metrics")).status == 200
    assert (await api.raw("GET", "/nothing/here")).status == 404


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", ("", "v1", "pods", "", "", "")),
        ("/api/v1/namespaces/d/pods", ("", "v1", "pods", "d", "", "")),
        ("/api/v1/namespaces/d/pods/p/log", ("", "v1", "pods", "d", "p", "log")),
        ("/api/v1/namespaces/d", ("", "v1", "namespaces", "d", "d", "")),
        ("/api/v1/namespaces/d/status", ("", "v1", "namespaces", "d", "d", "status")),
        ("/api/v1/namespaces/d/finalize", ("", "v1", "namespaces", "d", "d", "finalize")),
        ("/apis/apps/v1/namespaces/d/deployments/x/scale", ("apps", "v1", "deployments", "d", "x", "scale")),
        ("/api/v1/nodes/n%2Fx", ("", "v1", "nodes", "", "n%2Fx", "")),
    ],
)
def test_a_path_says_what_is_meant(path: str, expected: tuple[str, ...]) -> None:
    target = request.parse_path(path)
    found = (target.group, target.version, target.plural, target.namespace, target.name, target.subresource)
    assert found == expected
    assert target.known


@pytest.mark.parametrize(
    "path", ["/api/v1/namespaces/d/nodes/n", "/api/v1/pods/p", "/api/v1/namespaces/d/pods/p/nothing", "/apis/x/v1/y"]
)
def test_a_path_that_fits_no_resource_is_not_served(path: str) -> None:
    assert not request.parse_path(path).known


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", negotiate.PLAIN),
        ("*/*", negotiate.PLAIN),
        ("application/vnd.kubernetes.protobuf,application/json", negotiate.PLAIN),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", negotiate.Form("Table")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", negotiate.PLAIN),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", negotiate.Form("PartialObjectMetadata")),
        ("application/yaml", negotiate.Form(media=negotiate.YAML)),
        ("application/json;q=0.1, application/yaml;q=0.9", negotiate.Form(media=negotiate.YAML)),
    ],
)
def test_the_first_acceptable_form_is_taken(accept: str, expected: negotiate.Form) -> None:
    assert negotiate.form(accept) == expected


@pytest.mark.parametrize("accept", ["text/html", "application/vnd.kubernetes.protobuf", "application/json;q=0"])
def test_nothing_acceptable_is_406(accept: str) -> None:
    with pytest.raises(status.ApiError) as caught:
        negotiate.form(accept)
    assert caught.value.code == 406


async def test_too_many_at_once_are_sent_away(api: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontdoor, "MAX_READING", 1)
    monkeypatch.setattr("controlplane.apiserver.verbs.reading.FUTURE_SECONDS", 0.2)
    path = scheme.NAMESPACES.path()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(api.ask("GET", path, resourceVersion=str(api.storage.revision + 9)))
        await asyncio.sleep(0.01)
        refused = await api.raw("GET", path)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        stream = api.watch(path)
        assert (await anext(stream))["type"] == "ADDED"  # long-running requests are not counted
        await stream.aclose()
    assert waiting.result()[0] == 504


async def test_a_fault_of_the_server_is_a_500_and_does_not_end_it(
    api: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setitem(dispatch.VERBS, "list", broken)
    code, told = await api.ask("GET", "/api/v1/pods")
    assert (code, told["reason"], told["message"]) == (
        500,
        "InternalError",
        "Internal error occurred: ZeroDivisionError: oops",
    )
    assert (await api.ask("GET", "/version"))[0] == 200


async def test_large_replies_are_compressed_for_those_who_read_that(api: Harness) -> None:
    path = scheme.CONFIG_MAPS.path(namespace="default")
    await api.ask("POST", path, {"metadata": {"name": "a"}, "data": {"k": "x" * 200_000}})
    plain = await api.raw("GET", path)
    small = await api.raw("GET", path, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert len(small.body) < len(plain.body) / 10
