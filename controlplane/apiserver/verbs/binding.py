"""Subresources that change one thing: a pod's binding, a namespace's finalizers."""

from typing import Any

import orjson

from controlplane.apiserver import body, fieldvalidation, rendering, reply
from controlplane.apiserver.context import Context
from controlplane.apiserver.metadata import stamp
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import writing
from controlplane.store.entries import Entry
from kube import status
from kube.scheme import PODS

Object = dict[str, Any]


async def document(request: Request, receive: Receive, kind: str, versions: tuple[str, ...]) -> Object:
    """The body of a request that speaks another kind than the object it is about. Raises ApiError 400."""
    obj = body.decode(await body.read(request, receive), media=body.media_type(request))
    fieldvalidation.apply_to(obj, api_version=versions[0], kind=kind)
    if obj.setdefault("kind", kind) != kind or obj.setdefault("apiVersion", versions[0]) not in versions:
        raise status.bad_request(f"want {versions[0]} {kind}, found {obj['apiVersion']} {obj['kind']}")
    name = (obj.get("metadata") or {}).get("name") or request.target.name
    if request.target.name and name != request.target.name:
        raise status.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({request.target.name})"
        )
    obj.setdefault("metadata", {})["name"] = name
    return obj


async def bind(context: Context, request: Request, receive: Receive) -> Reply:
    """Assign a pod to a node, once; 409 when it is assigned or going away."""
    wish = await document(request, receive, "Binding", ("v1",))
    name, target = wish["metadata"]["name"], wish.get("target") or {}
    if target.get("kind", "Node") not in ("Node", "Minion"):
        error = status.unsupported("target.kind", target.get("kind"), ["Node", "<empty>"])
        raise status.invalid("Binding", name, [error])
    if not target.get("name"):
        raise status.invalid("Binding", name, [status.required("target.name")])
    now = stamp(context.clock.now())

    def change(entry: Entry) -> Object:
        return _bound(entry, wish, now)

    caller = writing.caller_of(request)
    await context.objects.update(
        PODS, namespace=request.target.namespace, name=name, change=change, caller=caller, subresource="binding"
    )
    return reply.of_object(status.success(), code=201)


def _bound(entry: Entry, wish: Object, now: str) -> Object:
    obj: Object = orjson.loads(entry.data)
    node, spec = wish["target"]["name"], obj["spec"]
    fault = ""
    if (wish["metadata"].get("uid") or obj["metadata"]["uid"]) != obj["metadata"]["uid"]:
        fault = "the pod has another uid than the binding"
    elif obj["metadata"].get("deletionTimestamp"):
        fault = f"pod {entry.name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        fault = f'pod {entry.name} is already assigned to node "{spec["nodeName"]}"'
    elif spec.get("schedulingGates"):
        fault = f"pod {entry.name} has non-empty .spec.schedulingGates"
    if fault:
        details = {"name": entry.name, "kind": "pods/binding"}
        text = f'Operation cannot be fulfilled on pods/binding "{entry.name}": {fault}'
        raise status.failure(409, "Conflict", text, details)
    spec["nodeName"] = node
    if annotations := wish["metadata"].get("annotations"):
        obj["metadata"]["annotations"] = {**(obj["metadata"].get("annotations") or {}), **annotations}
    state = obj.setdefault("status", {})
    others = [c for c in state.get("conditions") or [] if c.get("type") != "PodScheduled"]
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    if generation := obj["metadata"].get("generation"):
        scheduled["observedGeneration"] = generation
    state["conditions"] = [*others, scheduled]
    return obj


async def finalize(context: Context, request: Request, receive: Receive) -> Reply:
    """Set spec.finalizers of a namespace; the last one gone and the namespace goes with it."""
    wish = await document(request, receive, "Namespace", ("v1",))
    finalizers = (wish.get("spec") or {}).get("finalizers") or []

    def change(entry: Entry) -> Object:
        obj: Object = orjson.loads(entry.data)
        obj.setdefault("spec", {})["finalizers"] = finalizers
        if not finalizers:
            del obj["spec"]["finalizers"]
        if revision := wish["metadata"].get("resourceVersion"):
            obj["metadata"]["resourceVersion"] = revision
        return obj

    entry = await context.objects.update(
        request.resource,
        namespace="",
        name=request.target.name,
        change=change,
        caller=writing.caller_of(request),
        subresource="finalize",
    )
    return rendering.one(request, entry.data)
