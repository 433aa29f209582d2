"""All controllers together: the table of them, and their supervision."""

from collections.abc import Callable

from controlplane import projection
from controlplane.controllers import (
    bootstrapping,
    certificates,
    disruption,
    endpoints,
    endpointslice,
    garbage,
    mirroring,
    namespace,
    nodeipam,
    nodelifecycle,
    podgc,
    quotas,
    reconcile,
    replicaset,
    serviceaccount,
    tainteviction,
)
from controlplane.controllers.deployment import loop as deployment
from controlplane.controllers.volumes import loop as volumes
from kube import pki, scheme, types
from kube.runtime.component import Component, Deps
from kube.runtime.supervise import Supervisor

# Kinds the garbage collector need not keep a second time, since others here read them anyway.
SHARED = {
    scheme.PODS: projection.Pod,
    scheme.NODES: projection.Node,
    scheme.NAMESPACES: projection.Namespace,
    scheme.SERVICES: projection.Service,
    scheme.ENDPOINTS: projection.Endpoints,
    scheme.REPLICA_SETS: projection.ReplicaSet,
    scheme.REPLICATION_CONTROLLERS: projection.ReplicationController,
    scheme.DEPLOYMENTS: projection.Deployment,
    scheme.RESOURCE_QUOTAS: projection.ResourceQuota,
    scheme.POD_DISRUPTION_BUDGETS: projection.PodDisruptionBudget,
    scheme.PERSISTENT_VOLUME_CLAIMS: types.PersistentVolumeClaim,
    scheme.PERSISTENT_VOLUMES: types.PersistentVolume,
    scheme.STORAGE_CLASSES: types.StorageClass,
    scheme.CERTIFICATE_SIGNING_REQUESTS: projection.SigningRequest,
}
# Kinds whose going frees some of a quota.
QUOTED = tuple(kind for kind in garbage.monitored() if kind.namespaced and kind is not scheme.RESOURCE_QUOTAS)


class Controllers:
    """One component to the outside; a failing controller restarts alone."""

    name = "controllers"

    def __init__(
        self,
        deps: Deps,
        *,
        root_ca_pem: str,
        cluster_cidr: str,
        node_cidr_mask_size: int,
        node_grace: float,
        authority: pki.Authority | None = None,
    ) -> None:
        self._clock = deps.clock
        self.loops: tuple[reconcile.Loop, ...] = (
            namespace.Controller(deps).loop,
            serviceaccount.accounts(deps).loop,
            serviceaccount.root_ca(deps, pem=root_ca_pem).loop,
            replicaset.Controller(deps).loop,
            replicaset.Controller(deps, type=projection.ReplicationController).loop,
            deployment.Controller(deps).loop,
            endpoints.Controller(deps).loop,
            endpointslice.Controller(deps).loop,
            mirroring.Controller(deps).loop,
            nodeipam.Controller(deps, cluster_cidr=cluster_cidr, mask_size=node_cidr_mask_size).loop,
            nodelifecycle.Controller(deps, grace=node_grace).loop,
            tainteviction.Controller(deps).loop,
            podgc.Controller(deps).loop,
            disruption.Controller(deps).loop,
            quotas.Controller(deps, watched={kind: SHARED.get(kind, projection.Lean) for kind in QUOTED}).loop,
            volumes.Binder(deps).loop,
            volumes.Ephemeral(deps).loop,
            certificates.Approver(deps).loop,
            *([certificates.Signer(deps, authority=authority).loop] if authority else []),
            certificates.Cleaner(deps).loop,
            bootstrapping.InfoSigner(deps).loop,
            bootstrapping.TokenCleaner(deps).loop,
            garbage.Controller(deps, types=SHARED).loop,
        )

    async def run(self) -> None:
        """Supervise every controller until cancelled."""
        factories = {loop.name: _always(loop) for loop in self.loops}
        await Supervisor(factories, clock=self._clock, notify=lambda _: None).run()

    def ready(self) -> str | None:
        """None once every controller's caches are whole."""
        waiting = [reason for loop in self.loops if (reason := loop.ready())]
        return "; ".join(waiting) or None

    async def reload(self) -> None:
        """Nothing to reload."""

    async def close(self) -> None:
        """Nothing outlives run()."""


def _always(loop: reconcile.Loop) -> Callable[[], Component]:
    """Supervision asks for a new component; a loop can be run again, and keeps what it subscribed to."""
    return lambda: loop
