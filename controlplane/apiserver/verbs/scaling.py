"""The scale subresource: replicas of a workload as an autoscaling/v1 Scale, read and written."""

from typing import Any

import orjson

import kube.labels
from controlplane.apiserver import body, fieldvalidation, metadata, reply
from controlplane.apiserver.context import Context
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import writing
from controlplane.store.entries import Entry
from kube import status

Object = dict[str, Any]
API_VERSION, KIND = "autoscaling/v1", "Scale"


async def scale(context: Context, request: Request, receive: Receive) -> Reply:
    """get, update or patch the scale of one object."""
    target = request.target
    if request.verb == "get":
        entry = context.objects.find(request.resource, namespace=target.namespace, name=target.name)
        return reply.of_object(scale_of(entry.decode()))
    caller = writing.caller_of(request)
    if request.verb == "update":
        obj = body.decode(await body.read(request, receive), media=body.media_type(request))
    else:
        patch = await writing.read_patch(request, receive)

    def change(entry: Entry) -> Object:
        wish = obj if request.verb == "update" else patch.apply(scale_of(entry.decode()))
        fieldvalidation.apply_to(wish, api_version=API_VERSION, kind=KIND)
        return _rescaled(request, entry, wish)

    entry = await context.objects.update(
        request.resource, namespace=target.namespace, name=target.name, change=change, caller=caller
    )
    return reply.of_object(scale_of(entry.decode()))


def scale_of(obj: Object) -> Object:
    """The Scale of a workload."""
    meta, spec, state = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = spec.get("selector") or {}
    if obj["kind"] == "ReplicationController":
        selector = {"matchLabels": selector}
    return {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "metadata": {name: meta[name] for name in kept if name in meta},
        "spec": {"replicas": spec.get("replicas", 1)} if spec.get("replicas", 1) else {},
        "status": {"replicas": state.get("replicas", 0), "selector": str(kube.labels.from_object(selector))},
    }


def _rescaled(request: Request, entry: Entry, scale: Object) -> Object:
    name = request.target.name
    if (scale.get("kind"), scale.get("apiVersion")) != (KIND, API_VERSION):
        raise status.bad_request(f"want {API_VERSION} {KIND}, found {scale.get('apiVersion')} {scale.get('kind')}")
    meta = scale.get("metadata") or {}
    if meta.get("name", name) != name:
        raise status.bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        why = "must be greater than or equal to 0"
        raise status.invalid("Scale.autoscaling", name, [status.invalid_value("spec.replicas", replicas, why)])
    obj: Object = orjson.loads(entry.data)
    obj.setdefault("spec", {})["replicas"] = replicas
    if revision := meta.get("resourceVersion"):
        obj["metadata"]["resourceVersion"] = revision
    metadata.check_type(obj, request.resource)
    return obj
