"""What a pod gets from its RuntimeClass, and what is refused."""

from typing import Any

import pytest

from tests.fakes.api_harness import Harness

PODS = "/api/v1/namespaces/default/pods"
CLASS = {
    "metadata": {"name": "small"},
    "handler": "runc",
    "overhead": {"podFixed": {"cpu": "10m", "memory": "16Mi"}},
    "scheduling": {"nodeSelector": {"kind": "vm"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
}


async def ask(api: Harness, **spec: Any) -> tuple[int, dict[str, Any]]:
    code, answer = await api.ask("POST", "/apis/node.k8s.io/v1/runtimeclasses", CLASS)
    assert code in (201, 409), answer
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "demo:1"}], **spec}}
    return await api.ask("POST", PODS, body)


async def test_overhead_and_placement_of_the_class_become_the_pods(api: Harness) -> None:
    code, made = await ask(api, runtimeClassName="small", nodeSelector={"disk": "fast"})
    assert code == 201, made
    assert made["spec"]["overhead"] == {"cpu": "10m", "memory": "16Mi"}
    assert made["spec"]["nodeSelector"] == {"disk": "fast", "kind": "vm"}
    assert {"key": "vm", "operator": "Exists"} in made["spec"]["tolerations"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"overhead": {"cpu": "1"}}, "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        (
            {"runtimeClassName": "small", "overhead": {"cpu": "1"}},
            "Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"runtimeClassName": "small", "nodeSelector": {"kind": "bare"}},
            "conflict: runtimeClass.scheduling.nodeSelector[kind] = vm; pod.spec.nodeSelector[kind] = bare",
        ),
    ],
)
async def test_a_pod_that_contradicts_its_class_is_refused(api: Harness, spec: dict[str, Any], message: str) -> None:
    code, answer = await ask(api, **spec)
    assert code == 403 and message in answer["message"]
