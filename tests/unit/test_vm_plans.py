"""The machines of `./dev test vm`, as plans: their disk, qemu's command line, and what each is handed."""

import ipaddress
from pathlib import Path

import pytest
import yaml
from vm import image, qemu, seed

PYPROJECT = '[build-system]\nrequires = ["maker"]\n[project]\ndependencies = ["one~=1.0"]\n'


def test_a_disk_is_made_again_when_what_is_on_it_changes() -> None:
    one = image.plan(PYPROJECT)
    assert one.requirements == ("maker", "one~=1.0")
    assert one.key == image.plan(PYPROJECT).key != image.plan(PYPROJECT.replace("1.0", "1.1")).key


def test_the_disk_has_systemd_a_runtime_and_the_dependencies_and_nothing_of_the_host() -> None:
    made = dict(image.steps(image.plan(PYPROJECT), root=Path("/r"), disk=Path("/d")))
    debian = made["Debian bookworm by debootstrap"]
    assert {"systemd-sysv", "containerd", "qemu-guest-agent"} <= set(debian[2].partition("=")[2].split(","))
    assert made["dependencies"][:2] == ["chroot", "/r"] and made["dependencies"][-2:] == ["maker", "one~=1.0"]
    assert made["file system"][-2:] == ["/d", image.DISK_SIZE]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HOME": "/h"}, "/h/.cache/nodeagent/vm"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/nodeagent/vm"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/nodeagent/vm"),
    ],
)
def test_disks_are_kept_where_caches_are(environ: dict[str, str], folder: str) -> None:
    assert image.cache_folder(environ) == Path(folder)


def command(*, kvm: bool = False) -> list[str]:
    machine = qemu.Machine(
        name="one", folder=Path("/m/one"), seed=Path("/m/one.tar"), peer=Path("/m/two"), number=1, ports=((7000, 6443),)
    )
    boot = image.Image(disk=Path("/d"), kernel=Path("/k"), initrd=Path("/i"))
    return qemu.command(machine, boot=boot, kvm=kvm)


def test_a_machine_has_two_links_and_no_way_out() -> None:
    links = [command()[i + 1] for i, word in enumerate(command()) if word == "-netdev"]
    nat, cable = links
    assert nat == "user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:7000-10.0.2.15:6443"
    assert "local.path=/m/one/cable.sock" in cable and "remote.path=/m/two/cable.sock" in cable
    assert command()[-1] == "virtio-net-pci,netdev=lan,mac=52:54:00:00:56:01"


def test_a_processor_is_emulated_where_the_host_lends_none() -> None:
    assert "kvm" in command(kvm=True) and "kvm" not in command()


@pytest.fixture
def pair(tmp_path: Path) -> seed.Cluster:
    return seed.Cluster(directory=tmp_path, port=7000, driver="systemd", nodes=2)


def test_the_first_machine_is_the_server_too_and_every_one_has_its_own_address(pair: seed.Cluster) -> None:
    first, second = (seed.files(pair, node) for node in pair.lab.nodes)
    assert "/etc/nodeagent/server/server.yaml" in first and "/etc/nodeagent/server/server.yaml" not in second
    addresses = [yaml.safe_load(found["/etc/nodeagent/agent.yaml"])["nodeIP"] for found in (first, second)]
    assert addresses == ["192.168.56.10", "192.168.56.11"]
    assert all(ipaddress.ip_address(each) in seed.LAN for each in addresses)


def test_agent_and_runtime_use_the_same_driver(pair: seed.Cluster) -> None:
    found = seed.files(pair, pair.lab.nodes[0])
    assert yaml.safe_load(found["/etc/nodeagent/kubelet.yaml"])["cgroupDriver"] == "systemd"
    assert b"SystemdCgroup = true" in found["/etc/containerd/config.toml"]


def test_units_are_started_by_systemd_and_leave_pods_alone() -> None:
    assert set(seed.units(server=False)) < set(seed.units(server=True))
    text = seed.units(server=True)["nodeagent.service"]
    assert "Type=notify" in text and "Delegate=yes" in text and "KillMode=process" in text
