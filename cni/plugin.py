"""The six verbs of CNI over two effects, leases and links: ADD, DEL, CHECK, GC, STATUS, VERSION.

Owns what each verb does and undoes. Must not know sockets, processes or the cluster: the daemon and the one-shot
process both call `Plugin.call`. Blocking: use it from a thread.
"""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cni import attachment, chained, errors, loopback, spec
from cni.aliases import Aliases
from cni.attachment import Attachment
from cni.ipam import source
from cni.ipam.ranges import IPAddress
from cni.ipam.source import Source
from cni.ipam.store import DiskLeases, Leases
from cni.links import KernelLinks, Links
from cni.ports import publisher
from cni.ports.publisher import NftPorts, Ports
from cni.ports.ruleset import Record

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
        role = _role(config, environment)
        if role == chained.IPAM:
            return chained.ipam_result(self._source(config, environment).grant(), version=config.version)
        if role == chained.CHAINED:
            return self._add_chained(config, environment)
        addresses = self._source(config, environment)
        answer = addresses.grant()
        with contextlib.ExitStack() as undo:
            undo.callback(addresses.release)
            wanted = attachment.plan(config, environment, answer.granted, routes=answer.routes)
            made = self._links.attach(wanted, netns_path=environment.netns)
            undo.callback(self._links.detach, wanted.host_name)
            if self._gate is not None:
                self._gate.attached(environment, wanted)
            self._publish(config, environment, [address.ip for address in wanted.addresses])
            undo.pop_all()
        dns = dict(config.requested.dns or answer.dns)
        return attachment.result(wanted, made, netns=environment.netns, dns=dns).body(version=config.version)

    def _add_chained(self, config: spec.NetConf, environment: spec.Environment) -> Mapping[str, Any]:
        previous = chained.read(config)
        host_name = next((name for name in previous.host_names if name != config.bridge), "")
        name = attachment.shaper_name(attachment.host_name(environment.container_id, environment.ifname))
        self._links.shape(host_name, config.requested.bandwidth, shaper=name)
        if self._gate is not None and previous.addresses:
            self._gate.attached(environment, _from_previous(config, environment))
        self._publish(config, environment, chained.addresses(previous))
        return chained.previous_result(config)

    def _publish(self, config: spec.NetConf, environment: spec.Environment, addresses: Sequence[IPAddress]) -> None:
        key, wishes = (environment.container_id, environment.ifname), config.requested
        with contextlib.ExitStack() as undo:
            if wishes.aliases:
                names = Aliases(config.data_dir, config.name)
                names.put(key, wishes.aliases, addresses)
                undo.callback(names.remove, key)
            if wishes.ports:
                record = Record(container_id=key[0], ifname=key[1], addresses=tuple(addresses), ports=wishes.ports)
                self._ports(config).publish(record, bridge=config.bridge)
            undo.pop_all()

    def _del(self, config: spec.NetConf, environment: spec.Environment) -> None:
        failures: list[errors.CniError] = []
        key = {"container_id": environment.container_id, "ifname": environment.ifname}
        steps: list[Callable[[], object]] = [
            lambda: Aliases(config.data_dir, config.name).remove((environment.container_id, environment.ifname)),
            lambda: self._ports(config).withdraw(**key),
            lambda: self._links.detach(attachment.host_name(**key)),
        ]
        if config.type not in ("", spec.TYPE):
            steps = []
        if config.type not in ("", spec.TYPE) or not _without_addresses(config):
            steps.append(lambda: self._source(config, environment).release())
        for step in steps:
            try:
                step()
            except errors.CniError as error:
                failures.append(error)
        if self._gate is not None:
            self._gate.detached(environment)
        _raise_all(failures)

    def _check(self, config: spec.NetConf, environment: spec.Environment) -> None:
        addresses, role = self._source(config, environment), _role(config, environment)
        found: list[str] = []
        if role == chained.IPAM:
            found += addresses.problems(chained.addresses(chained.read(config)))
        elif role == chained.MAIN:
            wanted = _from_previous(config, environment)
            found += addresses.problems([address.ip for address in wanted.addresses])
            found += self._links.problems(wanted, netns_path=environment.netns)
        key = (environment.container_id, environment.ifname)
        if role != chained.IPAM and config.requested.ports:
            records = self._ports(config).published()
            if not any((r.container_id, r.ifname) == key for r in records):
                found.append("its host ports are not published")
        if role != chained.IPAM and config.requested.aliases and not Aliases(config.data_dir, config.name).has(key):
            found.append("its aliases are not published")
        if found:
            raise errors.CniError(errors.CHECK_FAILED, "the attachment is not as it was made", details="; ".join(found))

    def _gc(self, config: spec.NetConf, environment: spec.Environment) -> None:
        valid = set(config.valid_attachments)
        steps: list[Callable[[], object]] = []
        if config.type in ("", spec.TYPE):
            names = {attachment.host_name(*pair) for pair in valid}
            steps.append(lambda: self._ports(config).keep_only(valid))
            steps.append(lambda: Aliases(config.data_dir, config.name).keep_only(valid))
            steps += [
                functools.partial(self._links.detach, name)
                for name in self._links.host_names(config.bridge)
                if name.startswith("veth") and name not in names
            ]
        if not _without_addresses(config):
            steps.append(lambda: self._source(config, environment).keep_only(valid))
        failures: list[errors.CniError] = []
        for step in steps:
            try:
                step()
            except errors.CniError as error:
                failures.append(error)
        _raise_all(failures)

    def _status(self, config: spec.NetConf, environment: spec.Environment) -> None:
        self._source(config, environment).status()

    def _source(self, config: spec.NetConf, environment: spec.Environment) -> Source:
        return source.of(config, environment, self._leases)


def _role(config: spec.NetConf, environment: spec.Environment) -> str:
    own = attachment.host_name(environment.container_id, environment.ifname)
    if environment.command == "CHECK" and config.previous is None:
        return chained.MAIN
    return chained.role(config, own_host_name=own)


def _without_addresses(config: spec.NetConf) -> bool:
    """Chained after another plugin, with no say in addresses."""
    return not config.document.get("ipam")


def _from_previous(config: spec.NetConf, environment: spec.Environment) -> Attachment:
    """The attachment that `prevResult` describes. Raises CniError 7 when it is missing or not ours."""
    previous = chained.read(config)
    granted = [
        (interface, gateway or interface.network.network_address + 1)
        for interface, gateway in zip(previous.addresses, previous.gateways, strict=True)
    ]
    if not granted:
        raise errors.CniError(errors.INVALID_CONFIG, "invalid network config: prevResult", details="it has no address")
    return attachment.plan(config, environment, granted)


def _raise_all(failures: list[errors.CniError]) -> None:
    if failures:
        raise errors.CniError(failures[0].code, failures[0].message, details="; ".join(str(f) for f in failures))


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
