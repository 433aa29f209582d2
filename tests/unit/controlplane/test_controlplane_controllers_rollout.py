"""Rollouts as sentences, and a simulation: whatever order pods become ready in, the bounds hold."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers.deployment import limits, plan, progress, revisions, rollout
from controlplane.projection import Condition, Deployment, ReplicaSet

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY: frozenset[str] = frozenset()


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def deployment(
    replicas: int = 3, *, image: str = "v1", surge: int | str = "25%", unavailable: int | str = "25%", **spec: Any
) -> Deployment:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    full = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": template(image),
        "strategy": strategy,
        **spec,
    }
    meta = {"name": "web", "namespace": "default", "uid": "d", "generation": 1}
    return msgspec.convert({"metadata": meta, "spec": full}, Deployment)


def replica_set(
    image: str, replicas: int, *, available: int | None = None, desired: int = 3, revision: int = 1, owner: str = "d"
) -> ReplicaSet:
    made = template(image)
    made["metadata"]["labels"]["pod-template-hash"] = image
    meta = {
        "name": f"web-{image}",
        "namespace": "default",
        "uid": f"uid-{image}",
        "resourceVersion": "7",
        "labels": {"app": "web", "pod-template-hash": image},
        "creationTimestamp": f"2026-01-01T00:00:{revision:02}Z",
        "annotations": {revisions.DESIRED: str(desired), revisions.REVISION: str(revision)},
        "ownerReferences": [{"kind": "Deployment", "uid": owner, "name": "web", "controller": True}] if owner else [],
    }
    count = replicas if available is None else available
    status = {"replicas": replicas, "availableReplicas": count, "readyReplicas": count}
    selector = {"matchLabels": {"app": "web", "pod-template-hash": image}}
    spec = {"replicas": replicas, "template": made, "selector": selector}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": status}, ReplicaSet)


def decide(d: Deployment, *sets: ReplicaSet, populated: frozenset[str] = NOBODY, now: datetime = NOW) -> plan.Plan:
    return plan.plan(d, sets, populated=populated, now=now)


def sizes(decided: plan.Plan) -> dict[str, int]:
    return {resize.rs.metadata.name: resize.size for resize in decided.resize}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", (1, 1)),
        (3, "25%", "25%", (1, 0)),
        (10, "30%", "30%", (3, 3)),
        (3, 0, "25%", (0, 1)),
        (2, 0, 5, (0, 2)),
        (1, "0%", "0%", (0, 1)),
        (0, "25%", "25%", (0, 0)),
    ],
)
def test_percentages_round_so_that_a_rollout_always_can_move(
    replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]
) -> None:
    d = deployment(replicas, surge=surge, unavailable=unavailable)
    assert (limits.max_surge(d), limits.max_unavailable(d)) == expected


def test_a_new_deployment_makes_a_replica_set_named_and_labelled_by_the_template_hash() -> None:
    create = decide(deployment()).create
    assert create is not None
    meta, spec = create.body["metadata"], create.body["spec"]
    digest = meta["labels"]["pod-template-hash"]
    assert meta["name"] == f"web-{digest}"
    assert spec["replicas"] == 3
    assert spec["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": digest}
    assert spec["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": digest}
    assert meta["annotations"]["deployment.kubernetes.io/revision"] == "1"
    assert meta["annotations"]["deployment.kubernetes.io/max-replicas"] == "4"
    assert plan.events(decide(deployment())) == [f"Scaled up replica set web-{digest} from 0 to 3"]


def test_the_template_hash_does_not_change_between_processes() -> None:
    assert revisions.template_hash(template("v1"), 0) == revisions.template_hash(template("v1"), 0) == "hxdrlzqjgc"
    assert revisions.template_hash(template("v1"), 1) != revisions.template_hash(template("v1"), 0)


def test_a_changed_template_starts_within_the_surge() -> None:
    create = decide(deployment(image="v2"), replica_set("v1", 3)).create
    assert create is not None
    assert create.body["spec"]["replicas"] == 1
    assert create.body["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"


def test_an_old_pod_goes_only_when_a_new_one_is_available() -> None:
    d, old = deployment(image="v2"), replica_set("v1", 3)
    assert sizes(decide(d, old, replica_set("v2", 1, available=0, revision=2))) == {}
    assert sizes(decide(d, old, replica_set("v2", 1, available=1, revision=2))) == {"web-v1": 2}


def test_broken_old_pods_go_first() -> None:
    d = deployment(image="v3", surge=1, unavailable=1)
    broken = replica_set("v2", 1, available=0, revision=2)
    assert sizes(decide(d, replica_set("v1", 2), broken, replica_set("v3", 1, available=0, revision=3))) == {
        "web-v2": 0
    }


def test_a_stale_count_of_a_shrunk_replica_set_is_not_trusted() -> None:
    d = deployment(10, image="v2", surge=3, unavailable=2)
    old = replica_set("v1", 8, available=10, desired=10)
    new = replica_set("v2", 5, available=1, desired=10, revision=2)
    assert sizes(decide(d, old, new)) == {"web-v1": 7}


def test_going_back_to_an_old_template_reuses_its_replica_set_as_the_newest_revision() -> None:
    decided = decide(deployment(image="v1"), replica_set("v1", 0, revision=1), replica_set("v2", 3, revision=2))
    assert decided.create is None
    assert decided.sync is not None
    assert decided.sync.body["metadata"]["annotations"] == {
        "deployment.kubernetes.io/revision": "3",
        "deployment.kubernetes.io/revision-history": "1",
    }
    assert decided.annotate is not None
    assert decided.annotate.body["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "3"}


def test_empty_fields_that_a_typed_client_adds_make_no_new_template() -> None:
    d = deployment()
    d.spec.template["spec"]["containers"][0] |= {"resources": {}, "env": []}
    d.spec.template["metadata"]["creationTimestamp"] = None
    assert decide(d, replica_set("v1", 3)).create is None


def test_scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() -> None:
    d = deployment(15, image="v2", surge=3, unavailable=2)
    old = replica_set("v1", 8, desired=10)
    new = replica_set("v2", 5, available=0, desired=10, revision=2)
    for rs in (old, new):
        rs.metadata.annotations[revisions.MAXIMUM] = "13"
    assert sizes(decide(d, old, new)) == {"web-v1": 11, "web-v2": 7}


def test_a_paused_deployment_follows_its_size_but_does_not_roll() -> None:
    d = deployment(5, image="v2", paused=True)
    decided = decide(d, replica_set("v1", 3))
    assert decided.create is None
    assert sizes(decided) == {"web-v1": 5}
    reasons = {c.type: c.reason for c in decided.status.conditions}
    assert reasons["Progressing"] == "DeploymentPaused"


def test_recreate_waits_until_the_old_pods_are_gone() -> None:
    d = deployment(image="v2", strategy={"type": "Recreate"})
    old = replica_set("v1", 3)
    assert sizes(decide(d, old)) == {"web-v1": 0}
    emptied = replica_set("v1", 0)
    assert decide(d, emptied, populated=frozenset(["uid-v1"])).create is None
    create = decide(d, emptied).create
    assert create is not None
    assert create.body["spec"]["replicas"] == 3


def test_history_beyond_the_limit_is_removed_oldest_first_once_complete() -> None:
    d = deployment(image="v4", revisionHistoryLimit=1)
    d.metadata.annotations["deployment.kubernetes.io/revision"] = "4"
    sets = [replica_set(f"v{n}", 3 if n == 4 else 0, revision=n) for n in (1, 2, 3, 4)]
    assert [write.name for write in decide(d, *sets).delete] == ["web-v1", "web-v2"]


def test_orphans_are_adopted_before_anything_else_and_strangers_are_left_alone() -> None:
    decided = decide(deployment(), replica_set("v1", 3, owner=""))
    assert [patch.name for patch in decided.adopt] == ["web-v1"]
    assert decided.create is None
    assert decide(deployment(), replica_set("v1", 3, owner="someone")).create is not None


def conditions_of(decided: plan.Plan) -> dict[str, tuple[str, str, str]]:
    return {c.type: (c.status, c.reason, c.message) for c in decided.status.conditions}


def test_conditions_tell_the_rollout_in_the_words_kubectl_knows() -> None:
    d = deployment()
    created = decide(d)
    name = created.create.body["metadata"]["name"] if created.create else ""
    assert conditions_of(created)["Progressing"] == (
        "True",
        "NewReplicaSetCreated",
        f'Created new replica set "{name}"',
    )
    assert conditions_of(created)["Available"] == (
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    )
    d.status = created.status
    halfway = decide(d, replica_set("v1", 3, available=1))
    assert conditions_of(halfway)["Progressing"] == (
        "True",
        "ReplicaSetUpdated",
        'ReplicaSet "web-v1" is progressing.',
    )
    d.status = halfway.status
    done = conditions_of(decide(d, replica_set("v1", 3)))
    assert done["Progressing"] == (
        "True",
        "NewReplicaSetAvailable",
        'ReplicaSet "web-v1" has successfully progressed.',
    )
    assert done["Available"] == ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")


def test_a_rollout_that_stands_still_past_its_deadline_is_called_timed_out() -> None:
    d = deployment(progressDeadlineSeconds=10)
    stuck = replica_set("v1", 3, available=0)
    d.status = decide(d, stuck).status
    waiting = decide(d, stuck, now=NOW + timedelta(seconds=5))
    assert waiting.look_again == pytest.approx(6)
    late = decide(d, stuck, now=NOW + timedelta(seconds=11))
    assert conditions_of(late)["Progressing"] == (
        "False",
        "ProgressDeadlineExceeded",
        'ReplicaSet "web-v1" has timed out progressing.',
    )


def test_a_finished_deployment_is_left_in_peace() -> None:
    d = deployment()
    d.metadata.annotations["deployment.kubernetes.io/revision"] = "1"
    rs = replica_set("v1", 3)
    d.status = decide(d, rs).status
    again = decide(d, rs, now=NOW + timedelta(hours=1))
    assert progress.patch(d, again.status) is None
    assert (again.create, again.resize, again.delete, again.sync, again.annotate) == (None, (), (), None, None)


def test_a_replica_sets_failure_shows_on_the_deployment() -> None:
    rs = replica_set("v1", 3, available=0)
    rs.status.conditions = (Condition(type="ReplicaFailure", status="True", reason="FailedCreate", message="no"),)
    assert conditions_of(decide(deployment(), rs))["ReplicaFailure"] == ("True", "FailedCreate", "no")


class Simulation:
    """ReplicaSets that reach their size and readiness bit by bit, in whatever order the test draws."""

    def __init__(self, d: Deployment, old: ReplicaSet) -> None:
        self.d, self.sets = d, {old.metadata.name: old}
        self.pods = {old.metadata.name: [True] * old.spec.replicas}

    def pass_over(self) -> bool:
        decided = decide(self.d, *self.sets.values())
        self.d.status = decided.status
        if decided.create:
            rs = msgspec.convert({**decided.create.body, "status": {}}, ReplicaSet, strict=False)
            rs.metadata.uid, rs.metadata.namespace = rs.metadata.name, "default"
            rs.metadata.creation_timestamp = "2026-01-02T00:00:00Z"
            self.sets[rs.metadata.name], self.pods[rs.metadata.name] = rs, []
        if decided.sync:
            annotations = decided.sync.body["metadata"]["annotations"]
            self.sets[decided.sync.name].metadata.annotations.update(annotations)
        for resize in decided.resize:
            self.sets[resize.rs.metadata.name].spec.replicas = resize.size
            notes = rollout.patch(self.d, resize).body["metadata"]["annotations"]
            self.sets[resize.rs.metadata.name].metadata.annotations.update(notes)
        return bool(decided.create or decided.sync or decided.resize)

    def replica_set_pass(self, name: str) -> None:
        rs, pods = self.sets[name], sorted(self.pods[name])
        surplus = max(0, len(pods) - rs.spec.replicas)
        self.pods[name] = pods[surplus:] + [False] * max(0, rs.spec.replicas - len(pods))

    def report(self, name: str) -> None:
        rs, pods = self.sets[name], self.pods[name]
        rs.status.replicas, rs.status.ready_replicas, rs.status.available_replicas = len(pods), sum(pods), sum(pods)

    def become_ready(self, name: str) -> None:
        if False in self.pods[name]:
            self.pods[name][self.pods[name].index(False)] = True

    @property
    def available(self) -> int:
        return sum(map(sum, self.pods.values()))

    @property
    def existing(self) -> int:
        return sum(map(len, self.pods.values()))


@given(
    replicas=st.integers(1, 12),
    surge=st.one_of(st.integers(0, 5), st.sampled_from(["25%", "100%", "0%"])),
    unavailable=st.one_of(st.integers(0, 5), st.sampled_from(["25%", "50%", "0%"])),
    data=st.data(),
)
def test_a_rollout_never_drops_below_available_nor_above_surge_and_ends(
    replicas: int, surge: int | str, unavailable: int | str, data: st.DataObject
) -> None:
    d = deployment(replicas, image="v2", surge=surge, unavailable=unavailable)
    world = Simulation(d, replica_set("v1", replicas, desired=replicas))
    for _ in range(60):
        action = data.draw(st.sampled_from(["deployment", "replica set", "report", "ready"]))
        if action == "deployment":
            world.pass_over()
        else:
            name = data.draw(st.sampled_from(sorted(world.sets)))
            {"replica set": world.replica_set_pass, "report": world.report, "ready": world.become_ready}[action](name)
        assert world.available >= limits.min_available(d)
        assert world.existing <= limits.maximum(d)
    for _ in range(200):
        moved = world.pass_over()
        for name in list(world.sets):
            world.replica_set_pass(name)
            world.become_ready(name)
            world.report(name)
            assert world.available >= limits.min_available(d)
        if not moved and progress.is_complete(d, d.status):
            break
    assert progress.is_complete(d, decide(d, *world.sets.values()).status)
