"""The six verbs of CNI over two effects, leases and links: ADD, DEL, CHECK, GC, STATUS, VERSION.

Owns what each verb does and undoes. Must not know sockets, processes or the cluster: the daemon and the one-shot
process both call `Plugin.call`. Blocking: use it from a thread.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, Protocol

from cni import attachment, errors, loopback, spec
from cni.attachment import Attachment
from cni.ipam import ranges
from cni.ipam.ranges import IPAddress
from cni.ipam.store import DiskLeases, Leases
from cni.links import KernelLinks, Links
from cni.ports import publisher
from cni.ports.publisher import NftPorts, Ports
from cni.ports.ruleset import Record
from cni.result import Interface

log = logging.getLogger(__name__)


class Gate(Protocol):
    """Who has a say before an attachment is answered, as the daemon's policies do."""

    def attached(self, environment: spec.Environment, attachment: Attachment) -> None:
        """Returns when the pod may run. Raises CniError, and the attachment is undone."""
        ...

    def detached(self, environment: spec.Environment) -> None:
        """Is told of every DEL."""
        ...


class Plugin:
    """One plugin over its effects; `leases` opens the store of a network."""

    def __init__(
        self,
        *,
        links: Links | None = None,
        leases: Callable[[spec.NetConf], Leases] | None = None,
        ports: Callable[[spec.NetConf], Ports] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._links = links or KernelLinks()
        self._leases = leases or (lambda config: DiskLeases(Path(config.data_dir) / config.name))
        self._ports = ports or (lambda config: NftPorts(publisher.folder(config.data_dir, config.name)))

    def call(self, variables: Mapping[str, str], stdin: bytes) -> tuple[int, bytes]:
        """One invocation: exit code and what goes to standard output. Never raises."""
        version = spec.LATEST
        try:
            environment = spec.parse_environment(variables)
            document = spec.decode(stdin) if stdin.strip() or environment.command != "VERSION" else {}
            if environment.command == "VERSION":
                return 0, _encode(self._version(document))
            version = spec.requested_version(document, command=environment.command)
            if document.get("type") == loopback.TYPE:
                done = loopback.call(environment, version=version)
                return 0, b"" if done is None else _encode(done)
            config = spec.parse_config(document, version=version, args=environment.args)
            verb = getattr(self, "_" + environment.command.lower())
            body = verb(config, environment)
            return 0, b"" if body is None else _encode(body)
        except errors.CniError as error:
            return 1, _encode(error.body(version=version))
        except Exception as error:
            log.exception("CNI %s failed; this is a fault of the plugin", variables.get("CNI_COMMAND"))
            failure = errors.CniError(errors.IO_FAILURE, "internal error", details=f"{type(error).__name__}: {error}")
            return 1, _encode(failure.body(version=version))

    def _version(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        version = document.get("cniVersion", spec.LATEST)
        return {
            "cniVersion": version if version in spec.VERSIONS else spec.LATEST,
            "supportedVersions": list(spec.VERSIONS),
        }

    def _add(self, config: spec.NetConf, environment: spec.Environment) -> Mapping[str, Any]:
        key = {"container_id": environment.container_id, "ifname": environment.ifname}
        leases, ports = self._leases(config), self._ports(config)
        granted = leases.allocate(ranges.parse_sets(config.ranges), wanted=config.requested.addresses, **key)
        with contextlib.ExitStack() as undo:
            undo.callback(leases.release, **key)
            wanted = attachment.plan(config, environment, granted)
            made = self._links.attach(wanted, netns_path=environment.netns)
            undo.callback(self._links.detach, wanted.host_name)
            if self._gate is not None:
                self._gate.attached(environment, wanted)
            if config.requested.ports:
                addresses = tuple(address.ip for address in wanted.addresses)
                record = Record(addresses=addresses, ports=config.requested.ports, **key)
                ports.publish(record, bridge=config.bridge)
            undo.pop_all()
        return attachment.result(
            wanted, made, netns=environment.netns, dns=dict(config.requested.dns or config.dns)
        ).body(version=config.version)

    def _del(self, config: spec.NetConf, environment: spec.Environment) -> None:
        failures: list[errors.CniError] = []
        key = {"container_id": environment.container_id, "ifname": environment.ifname}
        for step in (
            lambda: self._ports(config).withdraw(**key),
            lambda: self._links.detach(attachment.host_name(**key)),
            lambda: self._leases(config).release(**key),
        ):
            try:
                step()
            except errors.CniError as error:
                failures.append(error)
        if self._gate is not None:
            self._gate.detached(environment)
        _raise_all(failures)

    def _check(self, config: spec.NetConf, environment: spec.Environment) -> None:
        wanted = _from_previous(config, environment)
        held = {
            lease.address
            for lease in self._leases(config).held()
            if (lease.container_id, lease.ifname) == (environment.container_id, environment.ifname)
        }
        found = [f"no lease for {a.ip}" for a in wanted.addresses if a.ip not in held]
        found += self._links.problems(wanted, netns_path=environment.netns)
        if found:
            raise errors.CniError(errors.CHECK_FAILED, "the attachment is not as it was made", details="; ".join(found))

    def _gc(self, config: spec.NetConf, environment: spec.Environment) -> None:
        valid = set(config.valid_attachments)
        names = {attachment.host_name(*pair) for pair in valid}
        leases = self._leases(config)
        failures: list[errors.CniError] = []
        for lease in leases.held():
            if (lease.container_id, lease.ifname) not in valid:
                leases.release(container_id=lease.container_id, ifname=lease.ifname)
        try:
            self._ports(config).keep_only(valid)
        except errors.CniError as error:
            failures.append(error)
        for name in self._links.host_names(config.bridge):
            if name.startswith("veth") and name not in names:
                try:
                    self._links.detach(name)
                except errors.CniError as error:
                    failures.append(error)
        _raise_all(failures)

    def _status(self, config: spec.NetConf, environment: spec.Environment) -> None:
        try:
            sets = ranges.parse_sets(config.ranges)
        except errors.CniError as error:
            raise errors.CniError(errors.NOT_AVAILABLE, "the pod range is unknown", details=str(error)) from error
        taken = {lease.address for lease in self._leases(config).held()}
        for number, entries in enumerate(sets):
            if all(address in taken for address, _ in ranges.candidates(entries, last=None)):
                raise errors.CniError(errors.LIMITED_CONNECTIVITY, f"range set {number} is used up")


def _from_previous(config: spec.NetConf, environment: spec.Environment) -> Attachment:
    """The attachment that `prevResult` describes. Raises CniError 7 when it is missing or not ours."""
    previous = config.previous
    if not isinstance(previous, dict):
        raise errors.CniError(errors.INVALID_CONFIG, "invalid network config: prevResult", details="CHECK needs it")
    try:
        granted: list[tuple[Interface, IPAddress]] = [
            (ip_interface(ip["address"]), ip_address(ip["gateway"])) for ip in previous["ips"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise errors.CniError(
            errors.INVALID_CONFIG, "invalid network config: prevResult", details=str(error)
        ) from error
    if not granted:
        raise errors.CniError(errors.INVALID_CONFIG, "invalid network config: prevResult", details="it has no address")
    return attachment.plan(config, environment, granted)


def _raise_all(failures: list[errors.CniError]) -> None:
    if failures:
        raise errors.CniError(failures[0].code, failures[0].message, details="; ".join(str(f) for f in failures))


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
