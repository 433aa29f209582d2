"""The API server put together: store, strategies, admission, authentication and the door, as one ASGI application.

Owns the composition and nothing else. Knows no scheduler and no controller.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

import kube.scheme
from controlplane.apiserver import frame, kubelets
from controlplane.apiserver.admission import (
    certificates,
    identity,
    lifecycle,
    limits,
    nodes,
    pods,
    quotas,
    runtimeclass,
    services,
)
from controlplane.apiserver.admission.chain import Chain
from controlplane.apiserver.authn import Authenticator
from controlplane.apiserver.authz import Authorizer
from controlplane.apiserver.bootstraptokens import BootstrapTokens
from controlplane.apiserver.context import Context
from controlplane.apiserver.discovery import Discovery
from controlplane.apiserver.dispatch import dispatch
from controlplane.apiserver.frontdoor import FrontDoor, Resources
from controlplane.apiserver.health import Health
from controlplane.apiserver.lookup import StoreLookup
from controlplane.apiserver.measure import Measure
from controlplane.apiserver.noderules import NodeRules
from controlplane.apiserver.objects import Objects
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.node_ports import NodePorts
from controlplane.apiserver.registry.service_allocation import ServiceAllocation
from controlplane.apiserver.registry.service_ips import ClusterIPs
from controlplane.apiserver.reply import Answer, Receive
from controlplane.apiserver.request import Request
from controlplane.apiserver.rules import components, everyone, joining
from controlplane.apiserver.tokens import Tokens
from controlplane.config import Settings
from controlplane.store.storage import Storage
from kube.runtime.clock import Clock
from kube.scheme import SERVICES


@dataclass(frozen=True, slots=True)
class ApiServer:
    """What the rest of the process needs of it."""

    app: FrontDoor
    context: Context
    health: Health


def register(storage: Storage) -> None:
    """Tell the store how each resource is indexed; before it is opened."""
    for resource in kube.scheme.RESOURCES:
        if not resource.virtual and not resource.storage:
            storage.register(resource.storage_key, strategy_for(resource).field_values)


def build(
    settings: Settings,
    storage: Storage,
    *,
    clock: Clock,
    registry: CollectorRegistry,
    exposition: Callable[[], bytes],
) -> ApiServer:
    """The API server over an opened store; ConfigurationError when keys or certificates are missing."""
    lookup = StoreLookup(storage)
    tokens = Tokens(settings.pki, issuer=settings.issuer, lookup=lookup, clock=clock)
    authenticator = Authenticator(tokens, bootstrap=BootstrapTokens(lookup.bootstrap_token, clock=clock).user)
    authorizer = Authorizer([everyone, components, joining, NodeRules(lookup.pods_of)])
    admission = _admission(settings, storage, authorizer=authorizer, clock=clock)
    context = Context(
        storage=storage,
        objects=Objects(storage, admission=admission, clock=clock),
        admission=admission,
        authenticator=authenticator,
        authorizer=authorizer,
        tokens=tokens,
        kubelets=kubelets.Kubelets(kubelets.tls_context(settings.pki, verify=settings.raw.verify_kubelets)),
        clock=clock,
    )
    health = Health()
    health.add("ping", lambda: None, live=True)
    door = FrontDoor(
        authenticator=authenticator,
        authorizer=authorizer,
        resources=_resources(context, Discovery(f"{settings.advertise}:{settings.port}")),
        frame=frame.build(health=health, tokens=tokens, exposition=exposition),
        measure=Measure(registry),
    )
    return ApiServer(door, context, health)


def _resources(context: Context, discovery: Discovery) -> Resources:
    async def answer(request: Request, receive: Receive) -> Answer:
        if not request.target.plural:
            return discovery.answer(request)
        return await dispatch(context, request, receive)

    return answer


def _admission(settings: Settings, storage: Storage, *, authorizer: Authorizer, clock: Clock) -> Chain:
    allocation = ServiceAllocation(ClusterIPs(str(settings.services)), NodePorts())
    allocation.rebuild([entry.decode() for entry in storage.cache(SERVICES.storage_key).items.values()])
    return Chain(
        [
            lifecycle.NamespaceLifecycle(storage),
            nodes.TaintNodesByCondition(),
            pods.ServiceAccount(storage),
            pods.Priority(storage),
            limits.LimitRanger(storage),
            runtimeclass.RuntimeClass(storage),
            pods.DefaultTolerationSeconds(),
            nodes.NodeRestriction(),
            identity.NodeIdentity(storage),
            certificates.CertificateRequests(authorizer, clock=clock),
            services.ServiceAddresses(allocation),
            quotas.ResourceQuota(storage),
        ]
    )
