"""Who goes when an owner goes."""

from typing import Any

import msgspec
import pytest

from controlplane.controllers import garbage, graph
from controlplane.controllers.graph import Graph, Verdict
from controlplane.projection import LeanMeta
from kube import scheme


def meta(
    uid: str, *, owners: Any = (), namespace: str = "default", finalizers: Any = (), deleting: bool = False
) -> LeanMeta:
    refs = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": name.strip("!"),
            "uid": name.strip("!"),
            "blockOwnerDeletion": "!" in name,
        }
        for name in owners
    ]
    made = {"name": uid, "namespace": namespace, "uid": uid, "resourceVersion": "1", "ownerReferences": refs}
    if deleting:
        made["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return msgspec.convert({**made, "finalizers": list(finalizers)}, LeanMeta)


def world(*objects: LeanMeta) -> Graph:
    made = Graph()
    for one in objects:
        made.put(scheme.PODS, one)
    return made


def judge(made: Graph, uid: str, *, absent: tuple[str, ...] = ()) -> Verdict:
    return graph.judge(made, made.nodes[uid], is_absent=absent.__contains__)


WAITING = {"deleting": True, "finalizers": ["foregroundDeletion"]}


@pytest.mark.parametrize(
    ("objects", "absent", "expected"),
    [
        ([meta("child", owners=["owner"]), meta("owner")], (), Verdict()),
        ([meta("child")], (), Verdict()),
        ([meta("child", owners=["owner"])], ("owner",), Verdict(delete="Background")),
        ([meta("child", owners=["owner"], deleting=True)], ("owner",), Verdict()),
        ([meta("child", owners=["a", "b"]), meta("a")], ("b",), Verdict(drop_owners=("b",))),
        ([meta("child", owners=["a", "b"])], ("a", "b"), Verdict(delete="Background")),
        ([meta("child", owners=["owner"], finalizers=["orphan"])], ("owner",), Verdict(delete="Orphan")),
        ([meta("child", owners=["owner"]), meta("owner", **WAITING)], (), Verdict(delete="Background")),
        (
            [meta("child", owners=["owner"]), meta("owner", **WAITING), meta("grandchild", owners=["child"])],
            (),
            Verdict(delete="Foreground"),
        ),
        ([meta("child", owners=["a", "b"]), meta("a"), meta("b", **WAITING)], (), Verdict(drop_owners=("b",))),
    ],
    ids=[
        "an owner that exists keeps it",
        "no owner, no question",
        "the last owner is gone",
        "it goes already",
        "a dead reference beside a living owner is dropped",
        "all owners are gone",
        "it wants its own dependents kept",
        "its owner waits for it",
        "its owner waits for it, and it for its own",
        "one owner waits, the other stays",
    ],
)
def test_verdict(objects: list[LeanMeta], absent: tuple[str, ...], expected: Verdict) -> None:
    assert judge(world(*objects), "child", absent=absent) == expected


def test_an_owner_never_seen_is_asked_for_before_anything_is_deleted() -> None:
    verdict = judge(world(meta("child", owners=["owner"])), "child")
    assert [ref.uid for ref in verdict.ask] == ["owner"]
    assert verdict.delete is None


def test_an_owner_in_another_namespace_does_not_count() -> None:
    verdict = judge(world(meta("child", owners=["owner"]), meta("owner", namespace="other")), "child")
    assert verdict.delete == "Background"
    assert [ref.uid for ref in verdict.foreign] == ["owner"]


def test_a_cluster_wide_owner_counts_everywhere() -> None:
    assert judge(world(meta("child", owners=["owner"]), meta("owner", namespace="")), "child") == Verdict()


def test_a_waiting_owner_goes_once_nothing_blocks_it() -> None:
    owner = meta("owner", deleting=True, finalizers=["foregroundDeletion"])
    blocked = judge(world(owner, meta("child", owners=["owner!"])), "owner")
    assert (blocked.visit, blocked.drop_finalizer) == (("child",), None)
    free = judge(world(owner, meta("child", owners=["owner"])), "owner")
    assert free.drop_finalizer == "foregroundDeletion"


def test_a_circle_of_owners_that_wait_for_each_other_is_broken_where_it_closes() -> None:
    """[sig-api-machinery] Garbage collector should not be blocked by dependency circle."""
    made = world(meta("a", owners=["c!"], **WAITING), meta("b", owners=["a!"]), meta("c", owners=["b!"]))
    assert judge(made, "b") == Verdict(delete="Foreground")
    made.put(scheme.PODS, meta("b", owners=["a!"], **WAITING))
    assert judge(made, "c") == Verdict(unblock=True)
    made.put(scheme.PODS, meta("c", owners=["b"]))
    assert judge(made, "c") == Verdict(delete="Foreground")
    assert judge(made, "b") == Verdict(drop_finalizer="foregroundDeletion")


def test_an_orphaning_owner_lets_its_dependents_go_first() -> None:
    owner = meta("owner", deleting=True, finalizers=["orphan"])
    verdict = judge(world(owner, meta("child", owners=["owner"])), "owner")
    assert [node.uid for node in verdict.orphan] == ["child"]
    assert verdict.drop_finalizer == "orphan"


def test_a_name_used_again_is_another_owner() -> None:
    made = world(meta("child", owners=["old-uid"]), meta("new-uid"))
    made.nodes["new-uid"].name = "old-uid"
    assert judge(made, "child", absent=("old-uid",)).delete == "Background"


def test_edges_follow_changes_of_owners() -> None:
    made = world(meta("child", owners=["a"]))
    made.put(scheme.PODS, meta("child", owners=["b"]))
    assert made.dependents_of("a") == []
    assert [node.uid for node in made.dependents_of("b")] == ["child"]
    made.remove("child")
    assert made.dependents == {}


def test_every_kind_that_can_be_deleted_is_watched_once_and_events_are_not() -> None:
    kinds = [resource.group_resource for resource in garbage.monitored()]
    assert len(kinds) == len(set(kinds))
    assert {"pods", "deployments.apps", "nodes", "leases.coordination.k8s.io"} <= set(kinds)
    assert not {"events", "events.events.k8s.io", "bindings"} & set(kinds)
