# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""What may change in a pod once it exists: in its spec and in its status."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme

Spec = dict[str, Any]
OTHERS = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
)


def stored(**fields: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "x:1"}], **fields}
    obj = {"metadata": {"name": "p", "namespace": "default"}, "spec": spec}
    strategy = registry.strategy_for(scheme.PODS)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return obj


def update(old: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> list[str]:
    new = copy.deepcopy(old)
    change(new)
    strategy = registry.strategy_for(scheme.PODS)
    strategy.default(new)
    strategy.prepare_update(new, old)
    return [str(error) for error in strategy.validate_update(new, old)]


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(obj: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            obj = obj[int(key)] if key.isdigit() else obj.setdefault(key, {})
        if value is None:
            obj.pop(last)
        else:
            obj[last] = value

    return change


TOLERATION = {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}


@pytest.mark.parametrize(
    ("sentence", "old", "change", "expected"),
    [
        ("nothing", {}, at("metadata.labels", {"a": "b"}), []),
        ("an image", {}, at("spec.containers.0.image", "x:2"), []),
        ("an image to nothing", {}, at("spec.containers.0.image", ""), ["spec.containers[0].image: Required value", "spec.containers[0].image: Required value"]),
        ("a command", {}, at("spec.containers.0.command", ["sh"]), [OTHERS + "changed: spec.containers"]),
        ("the node", {}, at("spec.nodeName", "n"), [OTHERS + "changed: spec.nodeName"]),
        ("a container more", {}, lambda obj: obj["spec"]["containers"].append({"name": "d", "image": "x"}), ["spec.containers: Forbidden: pod updates may not add or remove containers"]),
        ("a first deadline", {}, at("spec.activeDeadlineSeconds", 10), []),
        ("a shorter deadline", {"activeDeadlineSeconds": 10}, at("spec.activeDeadlineSeconds", 5), []),
        ("a longer deadline", {"activeDeadlineSeconds": 10}, at("spec.activeDeadlineSeconds", 20), ["spec.activeDeadlineSeconds: Invalid value: 20: must be less than or equal to previous value"]),
        ("no deadline any more", {"activeDeadlineSeconds": 10}, at("spec.activeDeadlineSeconds", None), ['spec.activeDeadlineSeconds: Invalid value: "null": must not update from a positive integer to nil value']),
        ("a toleration more", {"tolerations": [TOLERATION]}, at("spec.tolerations", [TOLERATION, {"operator": "Exists"}]), []),
        ("a toleration for longer", {"tolerations": [TOLERATION]}, at("spec.tolerations", [{**TOLERATION, "tolerationSeconds": 9}]), []),
        ("a toleration less", {"tolerations": [TOLERATION]}, at("spec.tolerations", []), ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]),
        ("grace from negative to 1", {"terminationGracePeriodSeconds": -1}, at("spec.terminationGracePeriodSeconds", 1), []),
        ("grace otherwise", {}, at("spec.terminationGracePeriodSeconds", 1), [OTHERS + "changed: spec.terminationGracePeriodSeconds"]),
        ("a gate opened", {"schedulingGates": [{"name": "a/b"}]}, at("spec.schedulingGates", []), []),
        ("a gate more", {"schedulingGates": [{"name": "a/b"}]}, at("spec.schedulingGates", [{"name": "a/b"}, {"name": "c/d"}]), ["spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'c/d'"]),
        ("a selector while gated", {"schedulingGates": [{"name": "a/b"}]}, at("spec.nodeSelector", {"disk": "ssd"}), []),
        ("another selector while gated", {"schedulingGates": [{"name": "a/b"}], "nodeSelector": {"disk": "ssd"}}, at("spec.nodeSelector", {"disk": "hdd"}), ['spec.nodeSelector: Invalid value: {"disk":"hdd"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)']),
        ("a selector once scheduled", {}, at("spec.nodeSelector", {"disk": "ssd"}), [OTHERS + "changed: spec.nodeSelector"]),
        ("the mirror annotation", {}, at("metadata.annotations", {"kubernetes.io/config.mirror": "x"}), ['metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set', "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"]),
    ],
)  # fmt: skip
def test_a_change_of_the_spec(sentence: str, old: Spec, change: Callable[[Any], Any], expected: list[str]) -> None:
    assert update(stored(**old), change) == expected, sentence


def test_a_spec_change_makes_a_new_generation_and_keeps_the_status() -> None:
    old = stored()
    new = copy.deepcopy(old)
    new["spec"]["containers"][0]["image"] = "x:2"
    new["status"] = {"phase": "Running"}
    registry.strategy_for(scheme.PODS).prepare_update(new, old)
    assert (new["metadata"]["generation"], new["status"]) == (2, {"phase": "Pending", "qosClass": "BestEffort"})


def state(name: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"name": name, "state": fields}]


ENDED = state("c", terminated={"exitCode": 0})
FAILED = state("c", terminated={"exitCode": 1})
RUNS = state("c", running={})
BACK = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"


@pytest.mark.parametrize(
    ("sentence", "policy", "before", "after", "expected"),
    [
        ("containers start", "Never", {}, {"containerStatuses": RUNS}, []),
        ("an ended one restarts under Always", "Always", {"containerStatuses": ENDED}, {"containerStatuses": RUNS}, []),
        ("but not under Never", "Never", {"containerStatuses": ENDED}, {"containerStatuses": RUNS}, [BACK]),
        ("a failed one restarts OnFailure", "OnFailure", {"containerStatuses": FAILED}, {"containerStatuses": RUNS}, []),
        ("a successful one does not", "OnFailure", {"containerStatuses": ENDED}, {"containerStatuses": RUNS}, [BACK]),
        ("the quality of service stays", "Always", {"qosClass": "Burstable"}, {"qosClass": "Guaranteed"}, ['status.qosClass: Invalid value: "Guaranteed": field is immutable']),
        ("addresses are addresses", "Always", {}, {"podIPs": [{"ip": "x"}]}, ['status.podIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
        ("one of each family", "Always", {}, {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}, ['status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP family']),
        ("both families", "Always", {}, {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, []),
        ("host addresses agree", "Always", {}, {"hostIP": "10.0.0.9", "hostIPs": [{"ip": "10.0.0.1"}]}, ['status.hostIPs[0].ip: Invalid value: "10.0.0.1": must be equal to `hostIP`']),
        ("conditions have names", "Always", {}, {"conditions": [{"type": "not ok"}]}, None),
    ],
)  # fmt: skip
def test_a_status_write(sentence: str, policy: str, before: Spec, after: Spec, expected: list[str] | None) -> None:
    old = {**stored(restartPolicy=policy), "status": before}
    new = {**copy.deepcopy(old), "status": after}
    found = [str(error) for error in registry.strategy_for(scheme.PODS).validate_status(new, old)]
    if expected is None:
        assert found and found[0].startswith("metadata.conditions[0].Type: Invalid value"), sentence
    else:
        assert found == expected, sentence


def test_a_status_write_without_a_class_keeps_the_class() -> None:
    old = stored()
    new = {**copy.deepcopy(old), "status": {"phase": "Running"}}
    registry.strategy_for(scheme.PODS).prepare_status(new, old)
    assert new["status"] == {"phase": "Running", "qosClass": "BestEffort"}
