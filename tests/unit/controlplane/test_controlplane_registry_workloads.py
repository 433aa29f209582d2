# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Workloads: defaults, selectors that must match templates, strategies and immutability."""

import copy
from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme
from kube.scheme import Resource

Spec = dict[str, Any]
LABELS = {"app": "web"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}}
BASE = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}


def created(resource: Resource, spec: Spec) -> dict[str, Any]:
    obj = {"metadata": {"name": "web", "namespace": "default"}, "spec": copy.deepcopy(spec)}
    strategy = registry.strategy_for(resource)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return obj


def check(resource: Resource, spec: Spec) -> list[str]:
    return [str(error) for error in registry.strategy_for(resource).validate_create(created(resource, spec))]


def rest(spec: Spec) -> Spec:
    return {key: value for key, value in spec.items() if key not in ("selector", "template")}


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (scheme.DEPLOYMENTS, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}),
        (scheme.REPLICA_SETS, {"replicas": 1}),
        (scheme.DAEMON_SETS, {"revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}),
        (scheme.STATEFUL_SETS, {"replicas": 1, "podManagementPolicy": "OrderedReady", "revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}, "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}),
    ],
)  # fmt: skip
def test_defaults(resource: Resource, expected: Spec) -> None:
    obj = created(resource, BASE)
    assert rest(obj["spec"]) == expected
    assert obj["spec"]["template"]["spec"]["restartPolicy"] == "Always"
    assert obj["metadata"]["generation"] == 1


def test_a_recreated_deployment_rolls_nothing() -> None:
    spec = created(scheme.DEPLOYMENTS, {**BASE, "strategy": {"type": "Recreate"}})["spec"]
    assert spec["strategy"] == {"type": "Recreate"}


def test_replicas_of_zero_stay_zero() -> None:
    assert created(scheme.DEPLOYMENTS, {**BASE, "replicas": 0})["spec"]["replicas"] == 0


OTHER = {**TEMPLATE, "metadata": {"labels": {"app": "api"}}}
T = "spec.template"
S = "spec.strategy"


def rolling(**fields: Any) -> Spec:
    return {**BASE, "strategy": {"rollingUpdate": fields}}


@pytest.mark.parametrize(
    ("sentence", "spec", "expected"),
    [
        ("as it should be", BASE, []),
        ("a selector is needed", {"template": TEMPLATE}, ["spec.selector: Required value", f'{T}.metadata.labels: Invalid value: {{"app":"web"}}: `selector` does not match template `labels`']),
        ("one that selects", {**BASE, "selector": {}}, ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]),
        ("its own pods", {**BASE, "template": OTHER}, [f'{T}.metadata.labels: Invalid value: {{"app":"api"}}: `selector` does not match template `labels`']),
        ("which have labels", {**BASE, "template": {**TEMPLATE, "metadata": {}}}, [f"{T}.metadata.labels: Invalid value: null: `selector` does not match template `labels`"]),
        ("known operators", {**BASE, "selector": {"matchLabels": LABELS, "matchExpressions": [{"key": "a", "operator": "Is"}]}}, ['spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator', 'spec.selector: Invalid value: {"matchLabels":{"app":"web"},"matchExpressions":[{"key":"a","operator":"Is"}]}: invalid label selector']),
        ("pods that restart", {**BASE, "template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}, [f'{T}.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"']),
        ("pods without end", {**BASE, "template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "activeDeadlineSeconds": 5}}}, [f"{T}.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"]),
        ("pods with containers", {**BASE, "template": {"metadata": {"labels": LABELS}}}, [f"{T}.spec.containers: Required value"]),
        ("an image", {**BASE, "template": {**TEMPLATE, "spec": {"containers": [{"name": "c"}]}}}, [f"{T}.spec.containers[0].image: Required value"]),
        ("not less than none", {**BASE, "replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ("a known strategy", {**BASE, "strategy": {"type": "Magic"}}, [f'{S}: Unsupported value: {{"Type":"Magic","RollingUpdate":null}}: supported values: "Recreate", "RollingUpdate"']),
        ("recreating does not roll", {**BASE, "strategy": {"type": "Recreate", "rollingUpdate": {}}}, [f"{S}.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"]),
        ("rolling needs room", rolling(maxSurge=0, maxUnavailable=0), [f"{S}.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"]),
        ("not all and more", rolling(maxUnavailable="101%"), [f'{S}.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%']),
        ("a share or a number", rolling(maxSurge="few"), [f"{S}.rollingUpdate.maxSurge: Invalid value: \"few\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"]),
        ("time enough to get ready", {**BASE, "minReadySeconds": 600}, ["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"]),
    ],
)  # fmt: skip
def test_deployments(sentence: str, spec: Spec, expected: list[str]) -> None:
    assert check(scheme.DEPLOYMENTS, spec) == expected, sentence


@pytest.mark.parametrize("resource", [scheme.DEPLOYMENTS, scheme.REPLICA_SETS, scheme.DAEMON_SETS])
def test_a_selector_never_changes(resource: Resource) -> None:
    old = created(resource, BASE)
    new = created(resource, {"selector": {"matchLabels": {"app": "api"}}, "template": OTHER})
    strategy = registry.strategy_for(resource)
    strategy.prepare_update(new, old)
    assert [str(error) for error in strategy.validate_update(new, old)] == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"api"}}: field is immutable'
    ]


def test_replica_sets_and_daemon_sets_need_their_own_pods_too() -> None:
    for resource in (scheme.REPLICA_SETS, scheme.DAEMON_SETS, scheme.STATEFUL_SETS):
        assert check(resource, {**BASE, "template": OTHER}) == [
            f'{T}.metadata.labels: Invalid value: {{"app":"api"}}: `selector` does not match template `labels`'
        ]


def test_a_replication_controller_selects_by_its_templates_labels() -> None:
    obj = created(scheme.REPLICATION_CONTROLLERS, {"template": TEMPLATE})
    assert (obj["spec"]["selector"], obj["metadata"]["labels"]) == (LABELS, LABELS)
    assert registry.strategy_for(scheme.REPLICATION_CONTROLLERS).validate_create(obj) == []


def test_a_stateful_set_changes_only_what_it_can_roll_out() -> None:
    old = created(scheme.STATEFUL_SETS, {**BASE, "serviceName": "web"})
    strategy = registry.strategy_for(scheme.STATEFUL_SETS)
    grown, renamed = copy.deepcopy(old), copy.deepcopy(old)
    grown["spec"]["replicas"] = 3
    renamed["spec"]["serviceName"] = "other"
    assert strategy.validate_update(grown, old) == []
    assert [str(error) for error in strategy.validate_update(renamed, old)] == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
        "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    ]


@pytest.mark.parametrize(
    ("sentence", "rolling_update", "expected"),
    [
        ("one after the other", {"maxUnavailable": 1}, []),
        ("the new one first", {"maxUnavailable": 0, "maxSurge": 1}, []),
        ("not both", {"maxUnavailable": 1, "maxSurge": 1}, ["spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"]),
        ("not neither", {"maxUnavailable": 0}, ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]),
    ],
)  # fmt: skip
def test_daemon_sets_roll(sentence: str, rolling_update: Spec, expected: list[str]) -> None:
    spec = {**BASE, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling_update}}
    assert check(scheme.DAEMON_SETS, spec) == expected, sentence


def test_a_status_counts_within_the_replicas() -> None:
    strategy = registry.strategy_for(scheme.REPLICA_SETS)
    old = created(scheme.REPLICA_SETS, BASE)
    new = {**old, "status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}}
    assert [str(error) for error in strategy.validate_status(new, old)] == [
        "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
    ]


JOB = {"template": {"spec": {"containers": [{"name": "c", "image": "x:1"}], "restartPolicy": "Never"}}}


def test_a_job_finds_its_pods_by_its_uid() -> None:
    obj = created(scheme.JOBS, JOB)
    uid = obj["metadata"]["uid"]
    assert obj["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert obj["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "web",
        "controller-uid": uid,
        "job-name": "web",
    }
    assert rest(obj["spec"]) == {
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "TerminatingOrFailed",
        "suspend": False,
    }
    assert registry.strategy_for(scheme.JOBS).validate_create(obj) == []


def test_a_job_ends() -> None:
    spec = {"template": {"spec": {"containers": [{"name": "c", "image": "x:1"}]}}}
    assert check(scheme.JOBS, spec) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]


def test_a_cron_job_gets_its_policies() -> None:
    obj = created(scheme.CRON_JOBS, {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}})
    spec = {key: value for key, value in obj["spec"].items() if key not in ("jobTemplate", "schedule")}
    assert spec == {
        "concurrencyPolicy": "Allow",
        "failedJobsHistoryLimit": 1,
        "successfulJobsHistoryLimit": 3,
        "suspend": False,
    }
    assert registry.strategy_for(scheme.CRON_JOBS).validate_create(obj) == []


def test_a_controller_revision_never_changes() -> None:
    strategy = registry.strategy_for(scheme.CONTROLLER_REVISIONS)
    meta = {"name": "a", "namespace": "default"}
    old = {"metadata": meta, "data": {"spec": {"x": None}}, "revision": 1}
    strategy.default(old)
    assert old["data"] == {"spec": {"x": None}}
    found = strategy.validate_update({"metadata": meta, "data": {}, "revision": 2}, old)
    assert [str(error) for error in found] == ["data: Invalid value: {}: field is immutable"]
