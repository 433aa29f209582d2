"""Checking objects against the schemas: unknown fields, wrong types, upstream's words, pruning."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kube import schema, scheme


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}


GOOD = pod(
    containers=[
        {
            "name": "a",
            "image": "a:1",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": 0.5}},
            "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 3},
            "readinessProbe": {"tcpSocket": {"port": 80}},
            "env": [{"name": "X", "value": ""}],
        }
    ],
    volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
    nodeSelector={"a": "b"},
    hostNetwork=False,
)


def test_a_good_object_has_nothing_to_report() -> None:
    report = schema.check("v1", "Pod", copy.deepcopy(GOOD))
    assert (report.unknown, report.fault, report.warnings()) == ((), "", [])
    assert report.message(strict=True) == ""


def test_null_stands_for_absent_anywhere() -> None:
    nulls = pod(containers=None, nodeName=None, volumes=[None], nodeSelector={"a": None})
    assert schema.check("v1", "Pod", nulls).message(strict=True) == ""


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"foo": 1}, ("spec.foo",)),
        ({"containers": [{"name": "a"}, {"imagee": "x"}]}, ("spec.containers[1].imagee",)),
        ({"foo": 1, "bar": {"deep": 1}}, ("spec.foo", "spec.bar")),
        ({"Containers": []}, ("spec.Containers",)),
        ({"affinity": {"nodeAffinity": {"x": 1}}}, ("spec.affinity.nodeAffinity.x",)),
        ({"containers": [{"resources": {"limits": {"any": "1"}}}]}, ()),
        ({"nodeSelector": {"any": "x"}}, ()),
        ({"foo": None}, ("spec.foo",)),
    ],
)
def test_unknown_fields_are_named_by_their_path(spec: dict[str, Any], paths: tuple[str, ...]) -> None:
    assert schema.check("v1", "Pod", pod(**spec)).unknown == paths


def test_unknown_fields_count_only_when_strict() -> None:
    broken = pod(foo=1, bar=2)
    report = schema.check("v1", "Pod", broken)
    assert report.strict_error() == 'strict decoding error: unknown field "spec.foo", unknown field "spec.bar"'
    assert report.warnings() == ['unknown field "spec.foo"', 'unknown field "spec.bar"']
    assert report.message(strict=False) == ""
    assert report.message(strict=True).startswith('Pod in version "v1" cannot be handled as a Pod: strict decoding')
    assert schema.check("v1", "Pod", broken, strict=False).unknown == ()


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"nodeName": 1}, "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string"),
        ({"hostNetwork": "yes"}, "cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        (
            {"containers": {}},
            "cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            {"containers": ["a"]},
            "cannot unmarshal string into Go struct field PodSpec.spec.containers of type v1.Container",
        ),
        (
            {"containers": [{"name": []}]},
            "cannot unmarshal array into Go struct field Container.spec.containers.name of type string",
        ),
        (
            {"containers": [{"command": [1]}]},
            "cannot unmarshal number into Go struct field Container.spec.containers.command of type string",
        ),
        (
            {"nodeSelector": {"a": True}},
            "cannot unmarshal bool into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            {"nodeSelector": []},
            "cannot unmarshal array into Go struct field PodSpec.spec.nodeSelector of type map[string]string",
        ),
        (
            {"securityContext": 1},
            "cannot unmarshal number into Go struct field PodSpec.spec.securityContext of type v1.PodSecurityContext",
        ),
        (
            {"priority": 2**31},
            "cannot unmarshal number 2147483648 into Go struct field PodSpec.spec.priority of type int32",
        ),
        ({"priority": 1.5}, "cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32"),
        ({"priority": True}, "cannot unmarshal bool into Go struct field PodSpec.spec.priority of type int32"),
        (
            {"terminationGracePeriodSeconds": "30"},
            "cannot unmarshal string into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            {"containers": [{"livenessProbe": {"httpGet": {"port": True}}}]},
            "json: cannot unmarshal bool into Go struct field "
            "HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            {"containers": [{"resources": {"limits": {"cpu": "one"}}}]},
            "quantities must match the regular expression",
        ),
        (
            {"containers": [{"resources": {"limits": {"cpu": True}}}]},
            "quantities must match the regular expression",
        ),
    ],
)
def test_a_wrong_type_is_told_as_upstreams_decoder_tells_it(spec: dict[str, Any], fault: str) -> None:
    report = schema.check("v1", "Pod", pod(**spec))
    assert fault in report.fault
    assert report.message(strict=False) == f'Pod in version "v1" cannot be handled as a Pod: {report.fault}'


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"volumes": [{"emptyDir": 1}]}, "Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource"),
        ({"volumes": [{"name": 1}]}, "Volume.spec.volumes.name of type string"),
        (
            {"volumes": [{"configMap": {"name": 1}}]},
            "ConfigMapVolumeSource.spec.volumes.VolumeSource.configMap.LocalObjectReference.name of type string",
        ),
        (
            {"ephemeralContainers": [{"image": 1}]},
            "EphemeralContainer.spec.ephemeralContainers.EphemeralContainerCommon.image of type string",
        ),
        (
            {"ephemeralContainers": [{"targetContainerName": 1}]},
            "EphemeralContainer.spec.ephemeralContainers.targetContainerName of type string",
        ),
        (
            {"containers": [{"livenessProbe": {"exec": 1}}]},
            "Probe.spec.containers.livenessProbe.ProbeHandler.exec of type v1.ExecAction",
        ),
        (
            {"containers": [{"lifecycle": {"preStop": {"exec": 1}}}]},
            "LifecycleHandler.spec.containers.lifecycle.preStop.exec of type v1.ExecAction",
        ),
        ({"overhead": 1}, "PodSpec.spec.overhead of type v1.ResourceList"),
    ],
)
def test_embedded_and_named_types_are_told_with_their_go_names(spec: dict[str, Any], place: str) -> None:
    fault = schema.check("v1", "Pod", pod(**spec)).fault
    assert fault == f"json: cannot unmarshal number into Go struct field {place}"


def test_the_message_names_the_version_without_the_group() -> None:
    message = schema.check("apps/v1", "Deployment", {"spec": {"replicas": "3"}}).message(strict=True)
    assert message == (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into '
        "Go struct field DeploymentSpec.spec.replicas of type int32"
    )


def test_a_wrong_type_is_told_before_unknown_fields() -> None:
    report = schema.check("v1", "Pod", pod(foo=1, nodeName=1))
    assert "nodeName" in report.message(strict=True)
    assert "foo" not in report.message(strict=True)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("", ""),
        ("aGk=", ""),
        ("aGk", "illegal base64 data at input byte 3"),
        ("a$b=", "illegal base64 data at input byte 1"),
        ("aGVsbG8g\nd29ybGQ=", ""),
    ],
)
def test_secret_data_must_be_base64(value: str, fault: str) -> None:
    assert schema.check("v1", "Secret", {"data": {"k": value}}).fault == fault


def stored_time(value: Any, field: str = "creationTimestamp") -> tuple[str, Any]:
    doc = {"metadata": {field: value}}
    return schema.check("v1", "Pod", doc, prune=True).fault, doc["metadata"][field]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("2026-11-23T15:00:00Z", "2026-11-23T15:00:00Z"),
        ("2026-11-23T15:00:00.987654Z", "2026-11-23T15:00:00Z"),
        ("2026-11-23T15:00:00.123456789Z", "2026-11-23T15:00:00Z"),
        ("2026-11-23T00:30:00+01:00", "2026-11-22T23:30:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00+01:00"),
    ],
)
def test_a_time_is_kept_in_whole_seconds_of_utc(value: str, kept: str) -> None:
    assert stored_time(value) == ("", kept)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("2026-11-23T15:00:00.123456Z", "2026-11-23T15:00:00.123456Z"),
        ("2026-11-23T15:00:00Z", "2026-11-23T15:00:00.000000Z"),
        ("2026-11-23T15:00:00.5+00:00", "2026-11-23T15:00:00.500000Z"),
    ],
)
def test_a_lease_time_is_kept_in_microseconds(value: str, kept: str) -> None:
    doc = {"spec": {"renewTime": value}}
    assert schema.check("coordination.k8s.io/v1", "Lease", doc, prune=True).fault == ""
    assert doc["spec"]["renewTime"] == kept


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("yesterday", 'cannot parse "yesterday" as "2006"'),
        ("", 'cannot parse "" as "2006"'),
        ("2026-11-23", 'cannot parse "" as "T"'),
        ("2026-11-23 15:00:00Z", 'cannot parse " 15:00:00Z" as "T"'),
        ("2026-1-1T00:00:00Z", 'cannot parse "1-1T00:00:00Z" as "01"'),
        ("2026-01-01T00:00:00", 'cannot parse "" as "Z07:00"'),
        ("2026-01-01T00:00:00z", 'cannot parse "z" as "Z07:00"'),
        ("2026-01-01T00:00:00+1", 'cannot parse "+1" as "Z07:00"'),
    ],
)
def test_what_is_no_time_is_told_with_the_part_that_cannot_be_read(value: str, why: str) -> None:
    assert stored_time(value) == (f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": {why}', value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2026-13-01T00:00:00Z", "month out of range"),
        ("2026-02-30T00:00:00Z", "day out of range"),
        ("2026-01-01T25:00:00Z", "hour out of range"),
        ("2026-01-01T00:60:00Z", "minute out of range"),
        ("2026-01-01T00:00:60Z", "second out of range"),
        ("2026-01-01T00:00:00.5Zx", 'extra text: "x"'),
    ],
)
def test_a_time_that_cannot_be_is_refused(value: str, why: str) -> None:
    assert stored_time(value) == (f'parsing time "{value}": {why}', value)


def test_a_time_must_be_text() -> None:
    fault = "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"
    assert stored_time(5) == (fault, 5)


def test_quantities_are_kept_in_canonical_form() -> None:
    limits = {"cpu": 0.5, "memory": "1024Mi", "a": 2, "b": " 1 ", "c": None, "d": "100m"}
    doc = pod(containers=[{"resources": {"limits": limits}}])
    assert schema.check("v1", "Pod", doc, prune=True).message(strict=True) == ""
    assert limits == {"cpu": "500m", "memory": "1Gi", "a": "2", "b": "1", "c": "0", "d": "100m"}


def test_free_form_fields_take_anything() -> None:
    revision = {"data": {"spec": {"template": [1, None]}}, "revision": 1}
    assert schema.check("apps/v1", "ControllerRevision", revision).message(strict=True) == ""
    managed = {"metadata": {"managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {"f:x": {}}}}]}}
    assert schema.check("v1", "Pod", managed).message(strict=True) == ""


def test_pruning_drops_unknown_fields_and_nulls_like_the_decoder() -> None:
    doc = pod(containers=[{"name": "a", "bad": 1, "image": None}], foo=1, nodeSelector={"k": None})
    report = schema.check("v1", "Pod", doc, prune=True)
    assert report.unknown == ("spec.containers[0].bad", "spec.foo")
    assert doc["spec"] == {"containers": [{"name": "a"}], "nodeSelector": {"k": ""}}


def test_checking_alone_changes_nothing() -> None:
    doc = pod(foo=1, containers=None)
    before = copy.deepcopy(doc)
    schema.check("v1", "Pod", doc)
    assert doc == before


def test_an_object_that_is_no_object_is_told_by_its_type() -> None:
    assert schema.check("v1", "Pod", []).fault == "json: cannot unmarshal array into Go value of type v1.Pod"


def test_an_unknown_kind_raises() -> None:
    with pytest.raises(schema.UnknownKind, match='no kind "Deployment" in version "v1"'):
        schema.check("v1", "Deployment", {})
    with pytest.raises(schema.UnknownKind, match='no kind "Pod" in version "apps/v1"'):
        schema.check("apps/v1", "Pod", {})


@pytest.mark.parametrize("resource", scheme.RESOURCES, ids=lambda resource: resource.group_resource)
def test_every_kind_of_the_scheme_has_a_schema(resource: scheme.Resource) -> None:
    known = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": "x"}}
    assert schema.check(resource.api_version, resource.kind, known).message(strict=True) == ""
    assert schema.check(resource.api_version, resource.kind, {"nope": 1}).unknown == ("nope",)


def test_delete_options_and_subresource_kinds_have_schemas() -> None:
    assert schema.check("v1", "DeleteOptions", {"gracePeriodSeconds": 0, "preconditions": {"uid": "x"}}).fault == ""
    assert schema.check("autoscaling/v1", "Scale", {"spec": {"replicas": 1}}).fault == ""
    assert schema.check("policy/v1", "Eviction", {"deleteOptions": {}}).fault == ""
    assert schema.check("authentication.k8s.io/v1", "TokenRequest", {"spec": {"audiences": ["a"]}}).fault == ""
