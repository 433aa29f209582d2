"""Eviction: a pod is deleted as far as the disruption budget that protects it allows.

Owns which pods a budget holds back, and the taking of one disruption off it before the deletion.
"""

from typing import Any

import orjson

from controlplane.apiserver import reply
from controlplane.apiserver.context import Context
from controlplane.apiserver.metadata import stamp
from controlplane.apiserver.objects import Caller
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import binding, deleting
from controlplane.store.entries import Entry
from kube import labels, status
from kube.scheme import POD_DISRUPTION_BUDGETS, PODS

Object = dict[str, Any]
MAX_DISRUPTED = 2000
RETRY_SECONDS = 10
BLOCKED = "Cannot evict pod as it would violate the pod's disruption budget."
MANY = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


async def evict(context: Context, request: Request, receive: Receive) -> Reply:
    """Delete a pod as its eviction; 429 while its budget does not allow it."""
    wish = await binding.document(request, receive, "Eviction", ("policy/v1", "policy/v1beta1"))
    options, target = wish.get("deleteOptions") or {}, request.target
    caller = deleting.caller_with(request, options)
    pod = context.objects.find(PODS, namespace=target.namespace, name=target.name).decode()
    if not unprotected(pod):
        found = [b for b in budgets(context, target.namespace) if protects(b, pod)]
        if len(found) > 1:
            raise status.internal(MANY)
        if found and not spared(found[0], pod):
            await _take(context, found[0], pod, caller)
        await _announce(context, pod, caller)
    await context.objects.delete(PODS, namespace=target.namespace, name=target.name, options=options, caller=caller)
    return reply.of_object(status.success(), code=201)


def unprotected(pod: Object) -> bool:
    """A pod that does not serve, or goes already, needs no leave to go."""
    finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed", "Pending")
    return finished or bool(pod["metadata"].get("deletionTimestamp"))


def budgets(context: Context, namespace: str) -> list[Object]:
    """The budgets of a namespace."""
    items = context.storage.cache(POD_DISRUPTION_BUDGETS.storage_key).items
    return [entry.decode() for key, entry in list(items.items()) if key.startswith(f"{namespace}/")]


def protects(budget: Object, pod: Object) -> bool:
    """Whether a budget selects a pod; without any selector it selects none."""
    selector = (budget.get("spec") or {}).get("selector")
    return selector is not None and labels.from_object(selector).matches(pod["metadata"].get("labels") or {})


def spared(budget: Object, pod: Object) -> bool:
    """A pod that is not ready costs no disruption: always, or while the others keep the budget, as its policy says."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    state = budget.get("status") or {}
    return 0 < (state.get("desiredHealthy") or 0) <= (state.get("currentHealthy") or 0)


def charged(budget: Object, pod: str, now: str) -> Object:
    """The budget with one disruption taken off for a pod. Raises ApiError: 429 when there is none left."""
    meta, state = budget["metadata"], budget.get("status") or {}
    name, allowed = meta["name"], state.get("disruptionsAllowed") or 0
    if (state.get("observedGeneration") or 0) < (meta.get("generation") or 0):
        raise _blocked(f"The disruption budget {name} is still being processed by the server.", RETRY_SECONDS)
    disrupted = state.get("disruptedPods") or {}
    if allowed < 0 or len(disrupted) > MAX_DISRUPTED:
        why = "pdb disruptions allowed is negative" if allowed < 0 else "DisruptedPods map too big - too many evictions"
        raise status.forbidden(why, resource=POD_DISRUPTION_BUDGETS, name=name)
    if allowed == 0:
        needed, healthy = state.get("desiredHealthy") or 0, state.get("currentHealthy") or 0
        raise _blocked(f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently", 0)
    after = state | {"disruptionsAllowed": allowed - 1, "disruptedPods": disrupted | {pod: now}}
    if allowed == 1:
        after["conditions"] = _used_up(state.get("conditions") or [], now, meta.get("generation") or 0)
    return budget | {"status": after}


def _used_up(conditions: list[Object], now: str, generation: int) -> list[Object]:
    verdict = {
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "lastTransitionTime": now,
        "observedGeneration": generation,
    }
    return [*(each for each in conditions if each.get("type") != "DisruptionAllowed"), verdict]


def _blocked(why: str, seconds: int) -> status.ApiError:
    causes = [{"reason": "DisruptionBudget", "message": why}]
    return status.eviction_blocked(BLOCKED, causes=causes, retry_after=seconds)


async def _take(context: Context, budget: Object, pod: Object, caller: Caller) -> None:
    now, meta = stamp(context.clock.now()), budget["metadata"]

    def change(entry: Entry) -> Object:
        return charged(orjson.loads(entry.data), pod["metadata"]["name"], now)

    await context.objects.update(
        POD_DISRUPTION_BUDGETS,
        namespace=meta["namespace"],
        name=meta["name"],
        change=change,
        caller=caller,
        subresource="status",
    )


async def _announce(context: Context, pod: Object, caller: Caller) -> None:
    """Tell in the pod's conditions why it goes, for those who replace it."""
    meta, now = pod["metadata"], stamp(context.clock.now())

    def change(entry: Entry) -> Object:
        obj: Object = orjson.loads(entry.data)
        told = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting",
            "lastProbeTime": None,
            "lastTransitionTime": now,
        }
        state = obj.setdefault("status", {})
        others = [each for each in state.get("conditions") or () if each.get("type") != "DisruptionTarget"]
        state["conditions"] = [*others, told]
        return obj

    await context.objects.update(
        PODS, namespace=meta["namespace"], name=meta["name"], change=change, caller=caller, subresource="status"
    )
