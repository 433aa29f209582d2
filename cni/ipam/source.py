"""Where the addresses of one call come from: our own store, or another IPAM plugin.

Owns what ADD, DEL, CHECK, GC and STATUS mean for addresses. Must not know links. Blocking: use it from a thread.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from cni import errors, spec
from cni.ipam import delegate, ranges
from cni.ipam.delegate import Answer
from cni.ipam.ranges import IPAddress
from cni.ipam.store import Leases
from cni.spec import Environment, NetConf


class Source(Protocol):
    """The addresses of one call."""

    def grant(self) -> Answer:
        """Addresses for the interface. Raises CniError."""
        ...

    def release(self) -> None:
        """Gives them back; nothing held is no error."""
        ...

    def problems(self, addresses: Sequence[IPAddress]) -> Sequence[str]:
        """What is wrong with the interface's hold on these addresses, in words."""
        ...

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        """Gives back what no valid (sandbox, interface) holds."""
        ...

    def status(self) -> None:
        """Raises CniError 50 or 51 when no address could be granted."""
        ...


def of(config: NetConf, environment: Environment, leases: Callable[[NetConf], Leases]) -> Source:
    """The source that the configuration names.

    `host-local` is the reference plugin where it is installed, and our own store, which has its layout, elsewhere.
    """
    native = config.ipam_type in ("", spec.TYPE)
    if not native and config.ipam_type == spec.HOST_LOCAL:
        native = delegate.find(config.ipam_type, path=environment.path) is None
    return OwnSource(config, environment, leases(config)) if native else DelegatedSource(config, environment)


class OwnSource:
    """Our store of leases."""

    def __init__(self, config: NetConf, environment: Environment, leases: Leases) -> None:
        self._config = config
        self._container_id, self._ifname = environment.container_id, environment.ifname
        self._leases = leases

    def grant(self) -> Answer:
        granted = self._leases.allocate(
            ranges.parse_sets(self._config.ranges),
            container_id=self._container_id,
            ifname=self._ifname,
            wanted=self._config.requested.addresses,
        )
        return Answer(granted=tuple(granted), routes=self._config.routes, dns=self._config.dns)

    def release(self) -> None:
        self._leases.release(container_id=self._container_id, ifname=self._ifname)

    def problems(self, addresses: Sequence[IPAddress]) -> Sequence[str]:
        held = {
            lease.address
            for lease in self._leases.held()
            if (lease.container_id, lease.ifname) == (self._container_id, self._ifname)
        }
        return [f"no lease for {address}" for address in addresses if address not in held]

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        for lease in self._leases.held():
            if (lease.container_id, lease.ifname) not in valid:
                self._leases.release(container_id=lease.container_id, ifname=lease.ifname)

    def status(self) -> None:
        try:
            sets = ranges.parse_sets(self._config.ranges)
        except errors.CniError as error:
            raise errors.CniError(errors.NOT_AVAILABLE, "the pod range is unknown", details=str(error)) from error
        taken = {lease.address for lease in self._leases.held()}
        for number, entries in enumerate(sets):
            if all(address in taken for address, _ in ranges.candidates(entries, last=None)):
                raise errors.CniError(errors.LIMITED_CONNECTIVITY, f"range set {number} is used up")


class DelegatedSource:
    """Another plugin, which gets the call as it came."""

    def __init__(self, config: NetConf, environment: Environment) -> None:
        self._config, self._environment = config, environment

    def grant(self) -> Answer:
        answer = delegate.add(self._config, self._environment)
        return Answer(granted=answer.granted, routes=answer.routes, dns=answer.dns or self._config.dns)

    def release(self) -> None:
        delegate.call(self._config, self._environment.with_command("DEL"))

    def problems(self, addresses: Sequence[IPAddress]) -> Sequence[str]:
        try:
            delegate.call(self._config, self._environment)
        except errors.CniError as error:
            return [str(error)]
        return []

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        delegate.call(self._config, self._environment)

    def status(self) -> None:
        delegate.call(self._config, self._environment)
