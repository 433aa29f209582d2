"""The machines of `./dev test vm`, as plans: their disk, qemu's command line, and what each is handed."""

import ipaddress
from pathlib import Path

import pytest
from vm import image, qemu, seed

PYPROJECT = '[project]\ndependencies = ["one~=1.0"]\n'


def test_a_disk_is_made_again_when_what_is_on_it_changes() -> None:
    one = image.plan(PYPROJECT)
    assert one.requirements == ("one~=1.0",)
    assert one.key == image.plan(PYPROJECT).key != image.plan(PYPROJECT.replace("1.0", "1.1")).key


def test_the_disk_has_systemd_a_runtime_and_the_dependencies_and_nothing_of_the_host() -> None:
    made = dict(image.steps(image.plan(PYPROJECT), root=Path("/r"), disk=Path("/d")))
    debian = made["Debian bookworm by debootstrap"]
    assert {"systemd-sysv", "containerd", "qemu-guest-agent"} <= set(debian[2].partition("=")[2].split(","))
    assert made["wheels"][-1] == "one~=1.0" and "/r" + image.WHEELS in made["wheels"]
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
    boot = image.Image(root=Path("/r"), disk=Path("/d"), kernel=Path("/k"), initrd=Path("/i"))
    return qemu.command(machine, boot=boot, kvm=kvm)


def test_a_machine_has_two_links_and_no_way_out() -> None:
    links = [command()[i + 1] for i, word in enumerate(command()) if word == "-netdev"]
    nat, cable = links
    assert nat == "user,id=nat,restrict=on,hostfwd=tcp:127.0.0.1:7000-10.0.2.15:6443"
    assert "local.path=/m/one/cable.sock" in cable and "remote.path=/m/two/cable.sock" in cable
    assert command()[-1] == "virtio-net-pci,netdev=lan,mac=52:54:00:00:56:01"


def test_a_processor_is_emulated_where_the_host_lends_none() -> None:
    assert "kvm" in command(kvm=True) and "kvm" not in command()


def test_every_machine_has_an_address_of_its_own_beside_the_one_all_have() -> None:
    texts = [seed.files(number)["/etc/systemd/network/20-lan.network"] for number in range(2)]
    assert "Address=192.168.56.10/24" in texts[0] and "Address=192.168.56.11/24" in texts[1]
    assert all(ipaddress.ip_address(seed.address(number)) in seed.LAN for number in range(2))


def test_the_first_machine_is_the_server_and_the_others_join_it() -> None:
    first, second = (seed.install(number, driver="systemd", token="t") for number in range(2))
    assert first[4] == "server" and "--token" not in first
    assert second[4:9] == ["agent", "--server", "https://192.168.56.10:6443", "--token", "t"]
    assert first[-2:] == second[-2:] == ["--cgroup-driver", "systemd"]
    assert first[first.index("--wheels") + 1] == image.WHEELS, "there is no way out to fetch anything"
