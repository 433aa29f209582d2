"""What a trace needs of the other packages: one call for each kind of hop. Must not know who answers."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from kube.hop import Hop

Objects = Mapping[str, Sequence[Mapping[str, Any]]]


class Parts(Protocol):
    """The hops that others own, on the machine this runs on. Blocking."""

    def inside(self, pid: int) -> AbstractContextManager[None]:
        """The calling thread in the network namespace of a process."""
        ...

    def name(self, asked: str, *, server: str, search: Sequence[str], version: int) -> list[Hop]:
        """What a name resolves to, in the network namespace of the caller."""
        ...

    def service(self, address: str, port: int, protocol: str) -> Hop:
        """Where this machine's service rules lead."""
        ...

    def tracked(self, source: tuple[str, int], to: tuple[str, int], protocol: str) -> Hop:
        """What connection tracking remembers."""
        ...

    def out_of_pod(self, pid: int, destination: str) -> list[Hop]:
        """From a pod into its machine."""
        ...

    def onward(self, destination: str) -> list[Hop]:
        """From this machine towards an address."""
        ...

    def into_pod(self, address: str) -> list[Hop]:
        """On the machine of an address, to the pod's veth."""
        ...

    def policy(self, objects: Objects, *, source: str, to: str, port: int, protocol: str) -> Hop:
        """What the network policies say."""
        ...
