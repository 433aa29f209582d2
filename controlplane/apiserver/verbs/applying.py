"""patch with application/apply-patch+yaml: server-side apply. It creates what is not there.

Owns the request's rules and words (apiserver `handlers/patch.go`); what is made of an object is `kube.patch.apply`'s.
"""

from dataclasses import replace
from typing import Any

from controlplane.apiserver import authz, body, convert, fieldvalidation, metadata, ownership, rendering
from controlplane.apiserver.context import Context
from controlplane.apiserver.objects import Caller
from controlplane.apiserver.ownership import Writer
from controlplane.apiserver.reply import Receive, Reply
from controlplane.apiserver.request import Request
from controlplane.apiserver.verbs import writing
from controlplane.store.entries import Entry
from kube import schema, status
from kube.patch import PatchError, owners
from kube.patch import apply as rules
from kube.scheme import Resource

Object = dict[str, Any]
OPTIONS = "PatchOptions.meta.k8s.io"


async def apply(context: Context, request: Request, receive: Receive) -> Reply:
    """Apply a configuration: 200, 201 when it made the object, 409 with every conflict unless forced."""
    if not request.query.get("fieldManager"):
        raise status.invalid(OPTIONS, "", [status.required("fieldManager", "is required for apply patch")])
    writer = ownership.writer_of(request, applied=True)
    caller = replace(writing.caller_of(request), writer=writer)
    rendering.form_of(request)
    force, home = request.flag("force"), convert.home(request.resource)
    config = convert.stored(request.resource, await _configuration(request, receive))
    metadata.place(config, home, namespace=request.target.namespace, name=request.target.name)
    wish = _Wish(context, home, config, writer, force)
    if not request.target.subresource and wish.missing(request):
        made = await _create(context, request, wish, caller)
        if made is not None:
            return rendering.one(request, made.data, code=201)
    entry = await context.objects.update(
        home,
        namespace=request.target.namespace,
        name=request.target.name,
        change=lambda entry: wish.upon(entry.decode()),
        caller=caller,
        subresource=request.target.subresource,
    )
    return rendering.one(request, entry.data)


async def _configuration(request: Request, receive: Receive) -> Object:
    """The configuration in the body, without what its type does not have."""
    data = await body.read(request, receive)
    config = body.load_json(data) if data[:1] == b"{" else body.load_yaml(data)
    if not isinstance(config, dict):
        raise status.bad_request("error decoding YAML: want one object")
    for name, key in (("Kind", "kind"), ("apiVersion", "apiVersion")):
        if not config.get(key):
            raise status.bad_request(f"error decoding YAML: Object '{name}' is missing in '{data.decode()}'")
    version = request.resource.api_version
    if config["apiVersion"] != version:
        raise status.bad_request(
            "Incorrect version specified in apply patch. "
            f"Specified patch version: {config['apiVersion']}, expected: {version}"
        )
    metadata.check_type(config, request.resource)
    if config["metadata"].get("managedFields") is not None:
        raise status.bad_request("metadata.managedFields must be nil")
    fieldvalidation.mode_of(request)
    report = schema.check(config["apiVersion"], config["kind"], config, strict=True, prune=True)
    if report.fault or report.unknown:
        unknown = [f".{path}: field not declared in schema" for path in report.unknown]
        text = report.fault or (unknown[0] if len(unknown) == 1 else "\n  ".join(["errors:", *unknown]))
        raise _untyped(config, request.target.namespace, text)
    return config


def _untyped(config: Object, namespace: str, text: str) -> status.ApiError:
    name = "/".join(part for part in (namespace, config["metadata"].get("name", "")) if part)
    group_version = config["apiVersion"] if "/" in config["apiVersion"] else f"/{config['apiVersion']}"
    of = f"{name}; {group_version}, Kind={config['kind']}"
    return status.bad_request(f"failed to create typed patch object ({of}): {text}")


class _Wish:
    """One configuration, applied to whatever state is found."""

    def __init__(self, context: Context, home: Resource, config: Object, writer: Writer, force: bool) -> None:
        self.home = home
        self.config = config
        self._context = context
        self._structure = schema.structure(home.api_version, home.kind)
        self._writer = writer
        self._force = force

    def missing(self, request: Request) -> bool:
        """Whether there is no such object yet."""
        key = metadata.key_of(self.home, namespace=request.target.namespace, name=request.target.name)
        return self._context.storage.get(self.home.storage_key, key) is None

    def upon(self, live: Object) -> Object:
        """What it makes of an object ({}: there is none)."""
        write = ownership.write_of(self._writer, self.home, owners.APPLY, now=self._context.clock.now())
        try:
            return rules.apply(live, self.config, self._structure, write, force=self._force)
        except rules.Conflicts as conflicts:
            raise status.failure(409, "Conflict", str(conflicts), {"causes": conflicts.causes()}) from conflicts
        except PatchError as fault:
            raise _untyped(self.config, self.config["metadata"].get("namespace", ""), str(fault)) from fault


async def _create(context: Context, request: Request, wish: _Wish, caller: Caller) -> Entry | None:
    """The object made, None when somebody else made it in between."""
    question = replace(authz.of_request(request), verb="create")
    decision = context.authorizer.authorize(question)
    if not decision.allowed:
        raise authz.refusal(request, question, decision)
    meta = wish.config["metadata"]
    if uid := meta.get("uid"):
        text = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise status.conflict(wish.home, meta["name"], text)
    namespace = request.target.namespace if wish.home.namespaced else ""
    try:
        return await context.objects.create(wish.home, wish.upon({}), namespace=namespace, caller=caller)
    except status.ApiError as error:
        if status.is_already_exists(error) and not caller.dry_run:
            return None
        raise
