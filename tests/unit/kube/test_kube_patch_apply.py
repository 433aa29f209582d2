"""Server-side apply: golden cases of ownership, merging, conflicts and removal, on the real schemas."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import schema
from kube.patch import PatchError, apply, fieldset, owners, typed
from kube.patch.owners import Owner

Object = dict[str, Any]
DEPLOYMENT = schema.structure("apps/v1", "Deployment")
CONFIG_MAP = schema.structure("v1", "ConfigMap")
SERVICE = schema.structure("v1", "Service")
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def deployment(*containers: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {**spec, "template": {"spec": {"containers": list(containers)}}},
    }


def write(
    manager: str = "ci", operation: str = "Apply", now: str = NOW, ignored: tuple[str, ...] = ("status",)
) -> apply.Write:
    return apply.Write(owner=Owner(manager, operation, "apps/v1"), now=now, ignored=ignored)


def applied(
    live: Object, config: Object, manager: str = "ci", *, force: bool = False, structure: Any = DEPLOYMENT
) -> Object:
    before = copy.deepcopy((live, config))
    made = apply.apply(live, config, structure, write(manager), force=force)
    assert before == (live, config), "inputs never change"
    return made


def updated(old: Object, new: Object, manager: str = "kubectl-edit", now: str = NOW) -> Object:
    return apply.updated(old, new, DEPLOYMENT, write(manager, "Update", now))


def fields(obj: Object, manager: str, operation: str = "Apply") -> Any:
    for entry in obj["metadata"].get("managedFields") or []:
        if (entry["manager"], entry["operation"]) == (manager, operation):
            return entry["fieldsV1"]
    return None


def spec_of(obj: Object) -> Object:
    spec: Object = obj["spec"]
    return spec


def test_an_applier_owns_the_leaves_it_sets_and_list_items_by_key() -> None:
    port = {"containerPort": 80}
    config = deployment({"name": "a", "image": "a:1", "args": ["x"], "ports": [port]}, replicas=2)
    config["metadata"]["labels"] = {"app": "web"}
    made = applied({}, config)
    assert made["metadata"]["managedFields"] == [{
        "manager": "ci", "operation": "Apply", "apiVersion": "apps/v1", "time": NOW, "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {"f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {'k:{"name":"a"}': {
                ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
            }}}}},
        },
    }]  # fmt: skip


def test_a_creator_owns_also_what_leads_to_its_fields() -> None:
    new = deployment({"name": "a", "image": "a:1", "resources": {}}, replicas=1)
    new["metadata"] |= {"labels": {"app": "web"}, "uid": "u", "annotations": {"x": "y"}}
    new["status"] = {"replicas": 1}
    assert fields(updated({}, new, "kubectl-create"), "kubectl-create", "Update") == {
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:annotations": {".": {}, "f:x": {}}},
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
            ".": {}, 'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}, "f:resources": {}}
        }}}},
    }  # fmt: skip


def test_what_is_no_longer_applied_goes_and_what_others_set_stays() -> None:
    sidecar = {"name": "b", "image": "b:1"}
    made = applied({}, deployment({"name": "a", "image": "a:1", "tty": True}, sidecar, replicas=2))
    edited = copy.deepcopy(made)
    edited["spec"]["paused"] = True
    made = applied(updated(made, edited), deployment({"name": "a", "image": "a:2"}))
    assert spec_of(made) == {"paused": True, "template": {"spec": {"containers": [{"name": "a", "image": "a:2"}]}}}
    assert fields(made, "kubectl-edit", "Update") == {"f:spec": {"f:paused": {}}}


def test_a_shared_field_stays_until_its_last_owner_lets_go() -> None:
    one = deployment({"name": "a", "image": "a:1"}, replicas=2)
    made = applied(applied({}, one, "first"), one, "second")
    made = applied(made, deployment({"name": "a", "image": "a:1"}), "first")
    assert spec_of(made)["replicas"] == 2
    made = applied(made, deployment({"name": "a", "image": "a:1"}), "second")
    assert "replicas" not in spec_of(made)


def test_an_applier_that_applies_nothing_more_is_forgotten() -> None:
    made = applied({}, deployment({"name": "a", "image": "a:1"}, replicas=2))
    bare = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    assert applied(made, bare) == bare


def test_an_item_another_owner_adds_to_stays_with_that_owners_fields() -> None:
    made = applied({}, deployment({"name": "a", "image": "a:1"}), "first")
    made = applied(made, deployment({"name": "a", "tty": True}), "second")
    made = applied(made, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}, "first")
    assert spec_of(made)["template"]["spec"]["containers"] == [{"name": "a", "tty": True}]


def test_fields_nobody_owns_survive_beside_removed_ones() -> None:
    made = applied({}, deployment({"name": "a", "image": "a:1", "tty": True}))
    made["spec"]["template"]["spec"] |= {"dnsPolicy": "ClusterFirst"}
    made["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    made = applied(made, deployment({"name": "a", "image": "a:1"}))
    left = {"name": "a", "image": "a:1", "imagePullPolicy": "Always"}
    assert spec_of(made)["template"]["spec"] == {"dnsPolicy": "ClusterFirst", "containers": [left]}


def test_changing_a_field_of_another_is_a_conflict_with_its_words() -> None:
    made = updated({}, deployment({"name": "a", "image": "a:1"}, replicas=1), "kubectl-create")
    with pytest.raises(apply.Conflicts) as caught:
        applied(made, deployment(replicas=3))
    assert str(caught.value) == (
        'Apply failed with 1 conflict: conflict with "kubectl-create" using apps/v1: .spec.replicas'
    )
    assert caught.value.causes() == [{
        "reason": "FieldManagerConflict",
        "message": 'conflict with "kubectl-create" using apps/v1',
        "field": ".spec.replicas",
    }]  # fmt: skip


def test_several_conflicts_are_listed_by_owner() -> None:
    made = updated({}, deployment({"name": "a", "image": "a:1"}, replicas=1), "kubectl-create")
    made = applied(made, deployment(minReadySeconds=1), "other")
    with pytest.raises(apply.Conflicts) as caught:
        applied(made, deployment({"name": "a", "image": "a:2"}, replicas=3, minReadySeconds=2))
    assert str(caught.value) == (
        "Apply failed with 3 conflicts: "
        'conflicts with "kubectl-create" using apps/v1:\n- .spec.replicas\n'
        '- .spec.template.spec.containers[name="a"].image\n'
        'conflicts with "other":\n- .spec.minReadySeconds'
    )
    assert len(caught.value.causes()) == 3


def test_force_takes_the_field_over() -> None:
    made = updated({}, deployment({"name": "a", "image": "a:1"}, replicas=1), "kubectl-create")
    made = applied(made, deployment(replicas=3), force=True)
    assert spec_of(made)["replicas"] == 3
    assert "f:replicas" not in fields(made, "kubectl-create", "Update")["f:spec"]


def test_the_same_value_is_shared_without_conflict() -> None:
    made = updated({}, deployment(replicas=1), "kubectl-create")
    made = applied(made, deployment(replicas=1))
    assert "f:replicas" in fields(made, "kubectl-create", "Update")["f:spec"]
    assert "f:replicas" in fields(made, "ci")["f:spec"]


def test_an_update_takes_fields_from_their_applier_without_asking() -> None:
    made = applied({}, deployment({"name": "a", "image": "a:1"}, replicas=1))
    scaled = copy.deepcopy(made)
    scaled["spec"]["replicas"] = 5
    made = updated(made, scaled, "kubectl-scale", LATER)
    assert fields(made, "kubectl-scale", "Update") == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in fields(made, "ci")["f:spec"]
    assert made["metadata"]["managedFields"][1]["time"] == LATER


def test_a_write_that_changes_nothing_gets_no_entry() -> None:
    made = applied({}, deployment({"name": "a", "image": "a:1"}))
    assert updated(made, copy.deepcopy(made), "nobody") == made


def test_an_object_nobody_was_tracked_on_belongs_to_before_first_apply() -> None:
    live = deployment({"name": "a", "image": "a:1"}, replicas=1)
    with pytest.raises(apply.Conflicts, match=r'conflict with "before-first-apply" using apps/v1: \.spec\.repl'):
        applied(live, deployment(replicas=3))
    made = applied(live, deployment(replicas=1))
    assert fields(made, "before-first-apply", "Update")["f:spec"]["f:replicas"] == {}


def annotated(obj: Object, last: Object) -> Object:
    found = copy.deepcopy(obj)
    found["metadata"]["annotations"] = {apply.LAST_APPLIED: orjson.dumps(last).decode()}
    return found


def test_kubectl_moves_from_its_own_annotation_without_conflict() -> None:
    first = deployment({"name": "a", "image": "a:1"}, replicas=1)
    live = updated({}, annotated(first, first), "kubectl-client-side-apply")
    wish = deployment({"name": "a", "image": "a:2"}, replicas=1)
    with pytest.raises(apply.Conflicts):
        applied(live, wish, "somebody-else")
    made = applied(live, wish, "kubectl")
    assert spec_of(made)["template"]["spec"]["containers"][0]["image"] == "a:2"
    assert orjson.loads(made["metadata"]["annotations"][apply.LAST_APPLIED]) == wish


def test_a_field_changed_since_kubectl_last_applied_is_still_a_conflict() -> None:
    first = deployment({"name": "a", "image": "a:1"}, replicas=1)
    live = updated({}, annotated(first, first), "kubectl-client-side-apply")
    scaled = copy.deepcopy(live)
    scaled["spec"]["replicas"] = 5
    live = updated(live, scaled, "kubectl-scale")
    with pytest.raises(apply.Conflicts, match=r"1 conflict: conflict with .kubectl-scale. using apps/v1: .spec.repl"):
        applied(live, deployment({"name": "a", "image": "a:2"}, replicas=2), "kubectl")


def test_items_only_the_object_has_keep_their_place() -> None:
    live = deployment({"name": "x"}, {"name": "a"}, {"name": "y"}, {"name": "b"})
    made = applied(live, deployment({"name": "b"}, {"name": "n"}, {"name": "a"}))
    assert [c["name"] for c in spec_of(made)["template"]["spec"]["containers"]] == ["x", "y", "b", "n", "a"]


def test_atomic_parts_are_owned_and_replaced_as_a_whole() -> None:
    labels = {"matchLabels": {"a": "1"}}
    made = applied({}, deployment({"name": "a", "command": ["x", "y"]}, selector=labels))
    assert fields(made, "ci")["f:spec"]["f:selector"] == {}
    made = applied(made, deployment({"name": "a", "command": ["z"]}, selector={"matchLabels": {"b": "2"}}))
    assert spec_of(made)["selector"] == {"matchLabels": {"b": "2"}}
    assert spec_of(made)["template"]["spec"]["containers"][0]["command"] == ["z"]


def test_sets_of_values_are_owned_by_value() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "finalizers": ["x/a"]}}
    made = applied({}, config, "one", structure=CONFIG_MAP)
    assert fields(made, "one") == {"f:metadata": {"f:finalizers": {'v:"x/a"': {}}}}
    more = {**config, "metadata": {"name": "c", "finalizers": ["x/b"]}}
    made = applied(made, more, "two", structure=CONFIG_MAP)
    assert made["metadata"]["finalizers"] == ["x/a", "x/b"]
    made = applied(made, {**config, "metadata": {"name": "c"}}, "one", structure=CONFIG_MAP)
    assert made["metadata"]["finalizers"] == ["x/b"]


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ([{"name": "a"}, {"name": "a"}],
         r'^\.spec\.template\.spec\.containers: duplicate entries for key \[name="a"\]$'),
        ([{"image": "a"}], "an element that omits all key fields"),
    ],
)  # fmt: skip
def test_a_configuration_that_names_items_twice_or_not_at_all_is_refused(container: Any, message: str) -> None:
    with pytest.raises(PatchError, match=message) as caught:
        applied({}, deployment(*container))
    assert caught.value.code == 400


def test_a_client_may_correct_or_reset_the_owners() -> None:
    made = applied({}, deployment({"name": "a"}, replicas=1))
    reset = copy.deepcopy(made)
    reset["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in updated(made, reset)["metadata"]
    corrected = copy.deepcopy(made)
    corrected["metadata"]["managedFields"][0]["manager"] = "renamed"
    assert fields(updated(made, corrected), "renamed") == fields(made, "ci")
    dropped = copy.deepcopy(made)
    del dropped["metadata"]["managedFields"]
    assert updated(made, dropped) == made
    broken = copy.deepcopy(made)
    broken["metadata"]["managedFields"] = [{"manager": "m", "operation": "Steal"}]
    assert updated(made, broken) == made


def test_the_oldest_writers_become_one_when_there_are_many() -> None:
    obj = updated({}, deployment({"name": "a"}), "creator")
    for number in range(14):
        changed = copy.deepcopy(obj)
        changed["metadata"].setdefault("labels", {})[f"l{number}"] = "x"
        obj = updated(obj, changed, f"w{number:02}", f"2026-01-03T00:00:{number:02}Z")
    managers = [entry["manager"] for entry in obj["metadata"]["managedFields"]]
    assert managers == ["ancient-changes", *(f"w{number:02}" for number in range(5, 14))]
    labels = fields(obj, "ancient-changes", "Update")["f:metadata"]["f:labels"]
    assert labels == {".": {}, **{f"f:l{number}": {} for number in range(5)}}


def test_owners_survive_writing_and_reading() -> None:
    obj = applied(updated({}, deployment({"name": "a"}, replicas=1), "kubectl-create"), deployment(minReadySeconds=3))
    entries = obj["metadata"]["managedFields"]
    assert owners.encode(owners.decode(entries)) == entries
    later = [{**entry, "time": LATER} for entry in reversed(entries)]
    assert owners.same_but_times(entries, later)
    assert not owners.same_but_times(entries, entries[:1])


@pytest.mark.parametrize(
    ("manager", "agent", "name"),
    [("mine", "x/1", "mine"), ("", "kubectl/v1.37 (linux)", "kubectl"), ("", "", "unknown"), ("", "a\x00b/1", "ab")],
)
def test_a_writer_goes_by_the_name_it_gives_or_its_program(manager: str, agent: str, name: str) -> None:
    assert owners.manager_name(manager, agent) == name


LEAF = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])
NODES: Any = st.recursive(st.just({}), lambda below: st.dictionaries(LEAF | st.just("."), below, max_size=3))
SETS = st.dictionaries(LEAF, NODES, max_size=3)


def members(fields: Object) -> set[tuple[str, ...]]:
    return set(fieldset.paths(fields))


@given(SETS, SETS)
def test_the_algebra_of_sets_is_that_of_their_paths(left: Object, right: Object) -> None:
    assert members(fieldset.union(left, right)) == members(left) | members(right)
    assert members(fieldset.intersection(left, right)) == members(left) & members(right)
    assert members(fieldset.difference(left, right)) == members(left) - members(right)


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("123"), max_size=3)
CONTAINERS = st.lists(st.sampled_from("xyz"), unique=True, max_size=3)


@st.composite
def deployments(draw: Any) -> Object:
    names = draw(CONTAINERS)
    obj = deployment(*({"name": name, "image": draw(st.sampled_from("12"))} for name in names))
    if labels := draw(LABELS):
        obj["metadata"]["labels"] = labels
    if not names:
        del obj["spec"]
    return obj


@given(deployments(), deployments())
def test_the_difference_of_two_objects_is_what_their_merge_and_removal_undo(old: Object, new: Object) -> None:
    found = typed.compare(old, new, DEPLOYMENT)
    left = typed.remove(old, found.removed, DEPLOYMENT)
    assert not typed.compare(new, typed.merge(left, new, DEPLOYMENT), DEPLOYMENT).added
    assert not typed.compare(typed.merge(left, new, DEPLOYMENT), new, DEPLOYMENT).modified


@given(deployments(), deployments())
def test_an_only_applier_gets_exactly_what_it_applies(first: Object, second: Object) -> None:
    made = applied(applied({}, first), second)
    bare = {**made, "metadata": {k: v for k, v in made["metadata"].items() if k != "managedFields"}}
    assert typed.compare(bare, second, DEPLOYMENT) == typed.Difference()


def env(*pairs: tuple[str, str]) -> Object:
    return deployment({"name": "a", "env": [{"name": name, "value": value} for name, value in pairs]})


def env_fields(obj: Object, manager: str, operation: str = "Update") -> Any:
    found = fields(obj, manager, operation)
    for step in ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"a"}', "f:env"):
        found = (found or {}).get(step)
    return found


def test_an_item_that_is_there_twice_is_owned_as_a_whole() -> None:
    made = updated({}, env(("X", "1"), ("X", "2"), ("Y", "1")), "one")
    y = {".": {}, "f:name": {}, "f:value": {}}
    assert env_fields(made, "one") == {".": {}, 'k:{"name":"X"}': {}, 'k:{"name":"Y"}': y}
    changed = {**env(("X", "1"), ("X", "3"), ("Y", "1"))}
    changed["metadata"]["managedFields"] = made["metadata"]["managedFields"]
    made = updated(made, changed, "two")
    assert env_fields(made, "two") == {'k:{"name":"X"}': {}}
    assert env_fields(made, "one") == {".": {}, 'k:{"name":"Y"}': y}


def test_an_item_that_becomes_twice_is_lost_to_its_owner_with_its_fields() -> None:
    made = updated({}, env(("X", "1")), "one")
    twice = env(("X", "1"), ("X", "2"))
    twice["metadata"]["managedFields"] = made["metadata"]["managedFields"]
    made = updated(made, twice, "two")
    assert (env_fields(made, "one"), env_fields(made, "two")) == ({}, {'k:{"name":"X"}': {}})
    made = applied(made, env(("Y", "1")))
    kept = spec_of(made)["template"]["spec"]["containers"][0]["env"]
    assert [item["name"] for item in kept] == ["X", "X", "Y"]
