"""Limit ranges: what a pod gets that names nothing, and what is refused, in upstream's words."""

from typing import Any

import pytest

from controlplane.apiserver.admission import limits
from tests.fakes.api_harness import Harness

Object = dict[str, Any]
NAMESPACE = "/api/v1/namespaces/default"


def pod(**resources: Object) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x:1", "resources": resources}]}}


async def limit(api: Harness, **item: Any) -> None:
    made = {"metadata": {"name": "limits"}, "spec": {"limits": [{"type": "Container", **item}]}}
    assert (await api.ask("POST", f"{NAMESPACE}/limitranges", made))[0] == 201


async def test_a_pod_gets_the_ranges_defaults_where_it_names_nothing(api: Harness) -> None:
    """[sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those applied."""
    await limit(api, default={"cpu": "500m", "memory": "500Mi"}, defaultRequest={"cpu": "100m", "memory": "200Mi"})
    _, made = await api.ask("POST", f"{NAMESPACE}/pods", pod(requests={"cpu": "300m"}))
    assert made["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "300m", "memory": "200Mi"},
        "limits": {"cpu": "500m", "memory": "500Mi"},
    }
    assert made["metadata"]["annotations"][limits.ANNOTATION] == (
        "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"
    )


async def test_a_pod_outside_the_range_is_refused(api: Harness) -> None:
    await limit(api, min={"cpu": "50m"}, max={"cpu": "500m"})
    code, told = await api.ask("POST", f"{NAMESPACE}/pods", pod(requests={"cpu": "10m"}, limits={"cpu": "600m"}))
    assert (code, told["message"]) == (
        403,
        'pods "p" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, '
        "maximum cpu usage per Container is 500m, but limit is 600m]",
    )


@pytest.mark.parametrize(
    ("item", "resources", "faults"),
    [
        ({"min": {"cpu": "1"}}, {}, ["minimum cpu usage per Pod is 1.  No request is specified"]),
        ({"max": {"cpu": "1"}}, {}, ["maximum cpu usage per Pod is 1.  No limit is specified"]),
        (
            {"max": {"cpu": "1"}},
            {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}},
            ["maximum cpu usage per Pod is 1, but request is 2"],
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
            ["cpu max limit to request ratio per Pod is 2, but provided ratio is 3.000000"],
        ),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}, []),
    ],
)
def test_a_whole_pod_is_judged_by_its_sum(item: Object, resources: Object, faults: list[str]) -> None:
    assert limits.pod_faults(pod(**resources), {"type": "Pod", **item}) == faults


def test_a_claim_is_judged_by_its_request() -> None:
    claim = {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    item = {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}
    assert limits.claim_faults(claim, item) == [
        "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi"
    ]
