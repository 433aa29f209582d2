"""Installation on hosts with systemd: a server runs pods, two agents join, and none of them keeps anything afterwards.

The server and the first agent are installed by README's own lines, the second by Vagrant's provisioning script.
"""

import base64
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import ROOT, Machine, Machines, run, tree

from kube import csr
from nodeagent.lab import images

Object = dict[str, Any]
SMOKE_IMAGE, PAUSE_IMAGE = "docker.io/library/busybox:1.36", "registry.k8s.io/pause:3.6"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
KUBECTL_CONFIG = "/etc/nodeagent/admin.kubeconfig"
# What the test itself brings: the machine's cgroups are in a folder of the host's tree, and its disk is the host's.
MACHINE_YAML = """apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupRoot: {cgroup}
evictionHard: {{memory.available: 50Mi, nodefs.available: 1%}}
imageGCHighThresholdPercent: 100
"""
UNITS = ("nodeagent-agent", "nodeagent-dns")
LEFT = "find /etc /opt /usr/local /var/lib /run -xdev -not -path '*/systemd/*' -not -path '/run/*journal*' | sort"


def readme(section: str) -> list[list[str]]:
    """The code blocks of a section of README, as lists of lines."""
    text = (ROOT / "README.md").read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return [block.strip().splitlines() for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)]


class Cluster:
    """The machines, and what is asked of all of them."""

    def __init__(self, server: Machine, agents: list[Machine], kubectl: Path) -> None:
        self.server, self.agents, self._kubectl = server, agents, kubectl

    @property
    def all(self) -> list[Machine]:
        return [self.server, *self.agents]

    def kubectl(self, *argv: str) -> str:
        config = self.server.root / KUBECTL_CONFIG.strip("/")
        enter = ["nsenter", "-t", str(self.server.first), "-n", str(self._kubectl), "--kubeconfig", str(config)]
        return run(*enter, *argv)

    def serving(self) -> set[str]:
        """The nodes whose serving certificate was signed."""
        found = [each for each in self.items("certificatesigningrequests") if each.get("status", {}).get("certificate")]
        return {each["spec"]["username"] for each in found if each["spec"]["signerName"] == csr.KUBELET_SERVING}

    def items(self, kind: str, *argv: str) -> list[Object]:
        found: list[Object] = json.loads(self.kubectl("get", kind, "-o", "json", *argv))["items"]
        return found


@pytest.fixture(scope="module")
def supplies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels and images, made once, for machines without a way out."""
    folder = tmp_path_factory.mktemp("supplies")
    given = os.environ.get("NODEAGENT_MACHINE_WHEELS")
    wheels = Path(given) if given else folder / "wheels"
    if not given:
        wanted = [str(ROOT), "hatchling~=1.33", "editables"]
        run(sys.executable, "-m", "pip", "wheel", "-q", "-w", str(wheels), *wanted, seconds=600)
    (folder / "images").mkdir()
    busybox = Path("/bin/busybox").read_bytes()
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    small = images.busybox(busybox, applets=applets)
    pause = images.pause(Path("/usr/bin/catatonit").read_bytes())
    for name, image, shown in (("smoke", small, SMOKE_IMAGE), ("pause", pause, PAUSE_IMAGE)):
        (folder / "images" / f"{name}.tar").write_bytes(
            images.archive(renamed(image, shown), architecture=images.own_architecture())
        )
    (folder / "at").write_text(str(wheels))
    return folder


def renamed(image: images.Image, name: str) -> images.Image:
    """The same image under another name."""
    from dataclasses import replace

    return replace(image, name=name)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, programs: None, supplies: Path) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    wheels = (supplies / "at").read_text()
    made = Machines(folder, tree(folder), binds=(f"{ROOT}:/clone", f"{wheels}:/wheels", f"{supplies}/images:/images"))
    yield made
    made.end()


def fit(machine: Machine) -> None:
    """What a machine has that others pull: images; and where its cgroups are."""
    (machine.root / "etc/nodeagent").mkdir(exist_ok=True)
    (machine.root / "etc/nodeagent/90-machine.yaml").write_text(MACHINE_YAML.format(cgroup=machine.cgroup))
    for name in ("smoke", "pause"):
        machine("ctr", "-n", "k8s.io", "images", "import", f"/images/{name}.tar")


def shell(machine: Machine, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A line as a person types it, in the clone."""
    environment = [f"{name}={value}" for name, value in OFFLINE.items()]
    return machine("env", *environment, "sh", "-c", line, cwd="/clone", check=check)


@pytest.fixture(scope="module")
def cluster(machines: Machines, kubectl_program: Path) -> Cluster:
    server, first, second = (machines.boot(f"vm-{name}", last) for name, last in (("s", 10), ("a", 11), ("b", 12)))
    before = {each.name: left(each) for each in (server, first, second)}
    for each in (server, first, second):
        fit(each)
    for line in readme("On real hosts")[0]:
        printed = shell(server, line).stdout
    smoke, doctor = readme("On real hosts")[1]
    shell(server, smoke)
    assert shell(server, doctor, check=False).returncode in (0, 3)
    command = printed.strip().splitlines()[-1]
    state = second.root / "root/given"
    state.mkdir(parents=True)
    (state / "token").write_text(command.split()[-1])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        one = pool.submit(shell, first, command)
        script = f"vagrant/provision.sh agent {second.address} /root/given https://{server.address}:6443"
        other = pool.submit(shell, second, f"sh {script}")
        one.result()
        other.result()
    made = Cluster(server, [first, second], kubectl_program)
    made.before = before  # type: ignore[attr-defined]
    return made


def left(machine: Machine) -> set[str]:
    """Every file where an installation could leave one."""
    return set(machine("sh", "-c", LEFT).stdout.splitlines())


def test_every_machine_is_a_node_under_the_address_the_others_reach(cluster: Cluster) -> None:
    """And not under 10.0.2.15, which all of them have, and which has the default route."""
    found = {
        node["metadata"]["name"]: [
            each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"
        ]
        for node in cluster.items("nodes")
    }
    assert found == {each.name: [each.address] for each in cluster.all}
    for machine in cluster.all:
        assert "10.0.2.15" in machine("ip", "-4", "address").stdout


def test_the_units_are_without_fault_and_each_certificate_came_by_request(cluster: Cluster) -> None:
    for machine in cluster.all:
        units = [f"{each}.service" for each in UNITS] + (
            ["nodeagent-server.service"] if machine is cluster.server else []
        )
        checked = machine("systemd-analyze", "verify", *units)
        assert checked.stderr.strip() == ""
        assert machine("systemctl", "is-active", *units).stdout.split() == ["active"] * len(units)
        machine("test", "-s", "/var/lib/kubelet/pki/kubelet-client-current.pem")
    wanted = {f"system:node:{each.name}" for each in cluster.all}
    eventually("serving certificates", lambda: wanted == cluster.serving())


def eventually(what: str, check: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.5)


def test_kubectl_approves_a_request_by_hand(cluster: Cluster, tmp_path: Path) -> None:
    body = csr.make(csr.new_key(), common_name="jane", organizations=["developers"])
    spec = {"signerName": csr.CLIENT, "usages": ["client auth"], "request": base64.b64encode(body).decode()}
    request = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "spec": spec}
    (tmp_path / "jane.json").write_text(json.dumps({**request, "metadata": {"name": "jane"}}))
    cluster.kubectl("create", "-f", str(tmp_path / "jane.json"))
    assert "Pending" in cluster.kubectl("get", "csr", "jane")
    assert "approved" in cluster.kubectl("certificate", "approve", "jane")
    cluster.kubectl("wait", "csr/jane", "--for=jsonpath={.status.certificate}", "--timeout=20s")
    assert "Approved,Issued" in cluster.kubectl("get", "csr", "jane")


def pids(machine: Machine) -> list[str]:
    return [machine("systemctl", "show", "-p", "MainPID", each).stdout for each in UNITS]


def test_installing_again_changes_nothing_and_restarts_nothing(cluster: Cluster) -> None:
    agent = cluster.agents[0]
    before = pids(agent)
    line = f"python3 -m nodeagent install agent --server https://{cluster.server.address}:6443"
    shell(agent, line)
    assert pids(agent) == before


def containers(machine: Machine) -> set[str]:
    return set(machine("ctr", "-n", "k8s.io", "tasks", "ls", "-q").stdout.split())


def test_another_machine_of_the_same_name_or_with_a_bad_token_changes_nothing(cluster: Cluster) -> None:
    agent = cluster.agents[1]
    shell(agent, readme("On real hosts")[2][0])
    base = f"python3 -m nodeagent install agent --server https://{cluster.server.address}:6443"
    token = shell(cluster.server, "nodeagent token create").stdout.strip()
    agent("sh", "-c", "echo 0123456789abcdef0123456789abcdef > /etc/machine-id")
    for line, words in (
        (f"{base} --token {token}", "is another machine"),
        (f"{base} --token {token} --node-name {cluster.agents[0].name}", f"node {cluster.agents[0].name} exists"),
        (f"{base} --token {token[:23]}@sha256:{'0' * 64}", "not of the cluster this token was made for"),
        (f"{base} --token abcdef.0123456789abcdef@{token.partition('@')[2]}", "does not accept this token"),
    ):
        done = shell(agent, line, check=False)
        assert done.returncode == 1
        assert words in done.stderr, done.stderr
        assert not (agent.root / "etc/nodeagent/kubelet.kubeconfig").exists()


def test_an_interrupted_installation_takes_back_what_it_did(cluster: Cluster) -> None:
    agent = cluster.agents[1]
    token = shell(cluster.server, "nodeagent token create").stdout.strip()
    cluster.kubectl("delete", "node", agent.name)
    fit(agent)
    line = f"python3 -m nodeagent install agent --server https://{cluster.server.address}:6443 --token {token}"
    loop = "while [ ! -e /etc/nodeagent/00-agent.yaml ]; do sleep 0.05; done"
    script = f"{line} & pid=$!; {loop}; kill -TERM $pid; wait $pid"
    assert shell(agent, script, check=False).returncode != 0
    assert [each.name for each in (agent.root / "etc/nodeagent").glob("*.*")] == ["90-machine.yaml"]
    assert agent("systemctl", "is-active", *UNITS, check=False).stdout.split() == ["inactive"] * 2


def test_uninstall_leaves_nothing_on_any_machine(cluster: Cluster) -> None:
    for machine in reversed(cluster.all):
        for _ in range(2):
            done = shell(machine, "python3 -m nodeagent uninstall" if machine is cluster.agents[1] else "true")
            assert done.returncode == 0
        if machine is not cluster.agents[1]:
            shell(machine, readme("On real hosts")[2][0])
        gone = left(machine) - cluster.before[machine.name]  # type: ignore[attr-defined]
        ours = {each for each in gone if "nodeagent" in each or "kubelet" in each or "cni" in each}
        assert ours == set()
        links = machine("ip", "-o", "link").stdout
        assert not re.search(r"cni0|nodeagent|veth", links), links
        assert "nodeagent" not in machine("nft", "list", "tables").stdout
        assert containers(machine) == set()
