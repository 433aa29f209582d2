"""Whatever comes in, the answer is a result or an error object of CNI, and a failed ADD leaves nothing."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.plugin import Plugin
from fakes.links import FakeLinks
from fakes.ports import FakePorts

POD = "/run/netns/pod"
KEYS = (
    "cniVersion", "name", "type", "bridge", "mtu", "hairpinMode", "ipam", "dns", "prevResult", "runtimeConfig", "args",
    "cni.dev/valid-attachments", "subnet", "ranges", "rangeStart", "rangeEnd", "gateway", "routes", "dst", "gw",
    "portMappings", "hostPort", "containerPort", "protocol", "hostIP", "bandwidth", "ingressRate", "egressBurst", "ips",
    "mac", "ipRanges", "interfaces", "address", "sandbox", "containerID", "ifname", "cni", "servers",
)  # fmt: skip
WORDS = (
    "1.0.0",
    "1.1.0",
    "0.3.1",
    "net",
    "10.1.2.0/29",
    "fd00::/64",
    "10.1.2.3",
    "::1",
    "tcp",
    "cni0",
    "\0",
    "../x",
    "",
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.sampled_from(WORDS)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
commands = st.sampled_from(("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", ""))
PATHS = (
    ("ipam",), ("ipam", "ranges"), ("ipam", "routes"), ("ipam", "type"), ("prevResult",), ("prevResult", "ips"),
    ("prevResult", "interfaces"), ("runtimeConfig",), ("runtimeConfig", "portMappings"), ("runtimeConfig", "bandwidth"),
    ("runtimeConfig", "ips"), ("runtimeConfig", "mac"), ("runtimeConfig", "ipRanges"), ("runtimeConfig", "dns"),
    ("args",), ("args", "cni"), ("dns",), ("mtu",), ("bridge",), ("name",), ("cniVersion",), ("type",),
    ("hairpinMode",),
    ("cni.dev/valid-attachments",),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def answered(folder: Path, variables: dict[str, str], stdin: bytes) -> None:
    links, ports = FakeLinks([POD]), FakePorts()
    plugin = Plugin(links=links, ports=lambda _: ports)
    code, body = plugin.call(variables, stdin)
    answer = json.loads(body) if body else None
    if code:
        assert isinstance(answer["code"], int), answer
        assert answer["msg"] != "internal error", answer
        assert answer["cniVersion"]
        assert not links.pairs
        assert not ports.records
    leases = folder / "net"
    if variables.get("CNI_COMMAND") == "ADD" and code == 0:
        plugin.call(variables | {"CNI_COMMAND": "DEL"}, stdin)
        assert not links.pairs
    assert not [p for p in leases.glob("*") if p.name[0].isdigit()] if leases.exists() else True


def valid(folder: Path) -> dict[str, Any]:
    ipam = {"type": "nodeagent-cni", "dataDir": str(folder), "ranges": [[{"subnet": "10.1.2.0/29"}]]}
    return {"cniVersion": "1.1.0", "name": "net", "type": "nodeagent-cni", "ipam": ipam}


def environment(command: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "abc",
        "CNI_NETNS": POD,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nowhere",
    }


@given(command=commands, stdin=st.binary(max_size=64))
def test_any_bytes_on_standard_input_are_answered(folder: Path, command: str, stdin: bytes) -> None:
    answered(folder, environment(command), stdin)


@given(command=commands, path=st.sampled_from(PATHS), value=values)
def test_any_value_at_any_key_is_answered(folder: Path, command: str, path: tuple[str, ...], value: Any) -> None:
    config = valid(folder)
    inner = config
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = value
    answered(folder, environment(command), json.dumps(config).encode())


@given(command=commands, name=st.sampled_from(sorted(environment("ADD"))), value=st.text(max_size=20))
def test_any_environment_is_answered(folder: Path, command: str, name: str, value: str) -> None:
    variables = environment(command) | {name: value, "CNI_ARGS": value}
    answered(folder, variables, json.dumps(valid(folder)).encode())
