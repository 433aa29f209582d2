"""Addresses from another IPAM plugin: an executable on CNI_PATH that is called as the specification says.

Owns that call and the reading of its answer; its error objects are passed on as they are, never wrapped twice. Must not
know links. Blocking: use it from a thread.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from cni import errors
from cni.ipam.ranges import IPAddress
from cni.result import Interface
from cni.spec import Environment, NetConf, RouteWish

TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an IPAM plugin has given: addresses with gateways, routes and name servers."""

    granted: tuple[tuple[Interface, IPAddress], ...]
    routes: tuple[RouteWish, ...]
    dns: Mapping[str, Any]


def find(name: str, *, path: str) -> Path | None:
    """The executable on a CNI_PATH (folders with `:` between them)."""
    for folder in filter(None, path.split(":")):
        program = Path(folder) / name
        if "/" not in name and program.is_file():
            return program
    return None


def call(config: NetConf, environment: Environment) -> bytes:
    """Runs the plugin for the verb of the environment; its standard output. Raises CniError."""
    program = find(config.ipam_type, path=environment.path)
    if program is None:
        raise errors.CniError(
            errors.INVALID_CONFIG,
            "invalid network config: ipam.type",
            details=f"there is no {config.ipam_type!r} on CNI_PATH ({environment.path})",
        )
    stdin = json.dumps(dict(config.document)).encode()
    try:
        done = subprocess.run(
            [program],
            input=stdin,
            env=variables(environment),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.CniError(
            errors.IO_FAILURE, f"IPAM plugin {config.ipam_type} failed", details=str(error)
        ) from error
    if done.returncode:
        raise failure(config.ipam_type, done.stdout, done.stderr)
    return done.stdout


def add(config: NetConf, environment: Environment) -> Answer:
    """Asks for addresses. Raises CniError; what cannot be read is given back first."""
    output = call(config, environment)
    try:
        return read(output)
    except errors.CniError:
        call(config, environment.with_command("DEL"))
        raise


def read(output: bytes) -> Answer:
    """An IPAM result of any version. PURE. Raises CniError 6."""
    try:
        body = json.loads(output)
        interfaces = [(ip_interface(entry["address"]), entry.get("gateway")) for entry in body["ips"]]
        routes = [RouteWish(ip_network(r["dst"]), ip_address(r["gw"]) if r.get("gw") else None) for r in _routes(body)]
        granted = tuple(
            (each, ip_address(gateway) if gateway else each.network.network_address + 1) for each, gateway in interfaces
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.CniError(errors.DECODING_FAILURE, "cannot decode the IPAM result", details=str(error)) from error
    if not granted:
        raise errors.CniError(errors.DECODING_FAILURE, "the IPAM result has no address")
    return Answer(granted=granted, routes=tuple(routes), dns=body.get("dns") or {})


def _routes(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return body.get("routes") or ()


def failure(name: str, output: bytes, complaint: bytes) -> errors.CniError:
    """The plugin's own error object, or one that carries what it wrote. PURE."""
    try:
        body = json.loads(output)
        return errors.CniError(int(body["code"]), str(body["msg"]), details=str(body.get("details", "")))
    except (KeyError, TypeError, ValueError):
        words = (complaint or output).decode(errors="replace").strip()[:1000]
        return errors.CniError(errors.IO_FAILURE, f"IPAM plugin {name} failed", details=words)


def variables(environment: Environment) -> Mapping[str, str]:
    """The CNI variables of a call. PURE."""
    found = {
        "CNI_COMMAND": environment.command,
        "CNI_CONTAINERID": environment.container_id,
        "CNI_NETNS": environment.netns,
        "CNI_IFNAME": environment.ifname,
        "CNI_ARGS": ";".join(f"{name}={value}" for name, value in environment.args.items()),
        "CNI_PATH": environment.path,
    }
    return {name: value for name, value in found.items() if value}
