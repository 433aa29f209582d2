"""The controllers: loops that move the cluster towards what its objects ask for.

In: informers. Out: writes through the API, like everyone else's. Must not know the store nor any node matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kube import pki
    from kube.runtime.component import Component, Deps


def build(
    deps: Deps,
    *,
    root_ca_pem: str,
    cluster_cidr: str = "10.244.0.0/16",
    node_cidr_mask_size: int = 24,
    node_grace: float = 50.0,
    authority: pki.Authority | None = None,
) -> Component:
    """All controllers as one component; inside, each is restarted on its own. Without `authority` nothing is signed."""
    from controlplane.controllers.component import Controllers

    return Controllers(
        deps,
        root_ca_pem=root_ca_pem,
        cluster_cidr=cluster_cidr,
        node_cidr_mask_size=node_cidr_mask_size,
        node_grace=node_grace,
        authority=authority,
    )
