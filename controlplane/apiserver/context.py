"""What the verbs work with, handed to each of them. A bundle of parts; it does nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlplane.store.storage import Storage
from kube.runtime.clock import Clock

if TYPE_CHECKING:
    from controlplane.apiserver.admission.chain import Chain
    from controlplane.apiserver.authn import Authenticator
    from controlplane.apiserver.authz import Authorizer
    from controlplane.apiserver.kubelets import Kubelets
    from controlplane.apiserver.objects import Objects
    from controlplane.apiserver.tokens import Tokens


@dataclass(slots=True, kw_only=True)
class Context:
    """The parts of one API server."""

    storage: Storage
    objects: Objects
    admission: Chain
    authenticator: Authenticator
    authorizer: Authorizer
    tokens: Tokens
    kubelets: Kubelets
    clock: Clock
