"""Machines with systemd for the tests of installation: a debootstrap tree booted by systemd-nspawn, joined by a bridge.

Every machine has two interfaces, as Vagrant makes them: the first with the same address 10.0.2.15 everywhere and the
default route, the second in a network they share. Nothing of the host is changed but namespaces, mounts and cgroups of
our own, and all of it goes with `end`.
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "systemd-sysv,dbus,python3,python3-venv,containerd,runc,nftables,iproute2,conntrack,kmod,procps,"
    "ca-certificates,iputils-ping,systemd-container"
)
BOOT_SECONDS = 60.0
CGROUPS = Path("/sys/fs/cgroup")
SHARED = "192.168.56"


def run(*argv: str, seconds: float = 120, check: bool = True) -> str:
    """A command on the host; its output."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
    return done.stdout


def mirror() -> str:
    """Where this host gets its own Debian packages from."""
    for file in (*Path("/etc/apt/sources.list.d").glob("*.sources"), *Path("/etc/apt").glob("sources.list")):
        for line in file.read_text().splitlines():
            words = line.split()
            if line.startswith("URIs:"):
                return words[1]
            if line.startswith("deb "):
                return next(each for each in words if "://" in each)
    return "http://deb.debian.org/debian"


def tree(folder: Path) -> Path:
    """A Debian with what a node needs, made once; NODEAGENT_MACHINE_TREE names one to be used again."""
    made = Path(os.environ.get("NODEAGENT_MACHINE_TREE") or folder / "tree")
    if not (made / ".complete").exists():
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(made), mirror(), seconds=900)
        (made / "etc/machine-id").write_text("")
        (made / ".complete").touch()
    return made


@dataclass
class Machine:
    """One machine: a namespace for its network, an overlay for its files, systemd inside."""

    name: str
    address: str
    folder: Path
    tree: Path
    binds: Sequence[str] = ()
    nspawn: subprocess.Popen[bytes] | None = None
    first: int = 0
    controllers: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Its file system, as the host sees it."""
        return self.folder / self.name / "root"

    @property
    def cgroup(self) -> str:
        """Where its pods' cgroups are, since a namespace has no tree of its own here."""
        return f"/nodeagent-lab/machines/{self.name}"

    def boot(self) -> None:
        """Mount, start, and wait until systemd is up."""
        home = self.folder / self.name
        for each in ("upper", "work", "root"):
            (home / each).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={self.tree},upperdir={home / 'upper'},workdir={home / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        # The tree's own would come from D-Bus, the same in all of them.
        (self.root / "etc/machine-id").write_text(f"{uuid.uuid5(uuid.NAMESPACE_DNS, self.name).hex}\n")
        self.start()

    def start(self) -> None:
        """Switch it on; again after `stop`."""
        libraries = self.tree / "usr/lib/x86_64-linux-gnu"
        env = {**os.environ, "LD_LIBRARY_PATH": f"{libraries}/systemd:{libraries}", "LC_ALL": "C"}
        argv = [str(self.tree / "usr/bin/systemd-nspawn"), "-q", "--register=no", "--keep-unit", "--boot"]
        argv += ["--console=pipe", f"--machine={self.name}", f"--directory={self.root}", "--capability=all"]
        argv += [f"--network-namespace-path=/run/netns/{self.name}", "--resolv-conf=off", "--link-journal=no"]
        # Containers' first steps, which nspawn keeps from its own by default.
        argv += ["--system-call-filter=@keyring bpf"]
        # An overlay cannot stand on an overlay: containerd's own are on plain ground.
        (self.folder / self.name / "containerd").mkdir(exist_ok=True)
        argv += [f"--bind={self.folder / self.name}/containerd:/var/lib/containerd"]
        argv += [f"--bind-ro={each}" for each in self.binds]
        self.nspawn = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._up():
            assert time.monotonic() < deadline, f"{self.name} does not come up"
            time.sleep(0.1)
        self._open_cgroups()

    def _up(self) -> bool:
        assert self.nspawn is not None
        assert self.nspawn.poll() is None, f"{self.name}: systemd-nspawn ended with {self.nspawn.returncode}"
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        for child in children:
            self.first = int(child)
            found = self("systemctl", "is-system-running", check=False).stdout.strip()
            if found in ("running", "degraded"):
                return True
        return False

    def _open_cgroups(self) -> None:
        """Under v1 a namespace gets the controllers read-only: pods need a folder of their own in them."""
        self.controllers = [each.name for each in CGROUPS.iterdir() if (each / "cgroup.procs").exists()]
        for controller in self.controllers:
            (CGROUPS / controller / self.cgroup.strip("/")).mkdir(parents=True, exist_ok=True)
            self("mount", "-o", "remount,rw,bind", f"/sys/fs/cgroup/{controller}", check=False)
        # Only what belongs to its own network: the rest of /proc/sys is the host's.
        self("mount", "--bind", "/proc/sys/net", "/proc/sys/net")
        self("mount", "-o", "remount,rw,bind", "/proc/sys/net")

    def __call__(
        self, *argv: str, check: bool = True, seconds: float = 300, cwd: str = "/"
    ) -> subprocess.CompletedProcess[str]:
        """A command in the machine."""
        enter = [
            "nsenter",
            "-t",
            str(self.first),
            "-a",
            "env",
            "-i",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        inside = [*enter, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd, *argv]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=seconds, check=False)
        assert not check or done.returncode == 0, f"{self.name}: {' '.join(argv)}:\n{done.stdout}{done.stderr}"
        return done

    def stop(self) -> None:
        """Switch it off as a power button does."""
        if self.nspawn is not None and self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)
            try:
                self.nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait(10)
        self.nspawn = None

    def end(self) -> None:
        """Switch it off and take everything away."""
        self.stop()
        run("umount", "--lazy", str(self.root), check=False)
        for controller in self.controllers:
            _remove_groups(CGROUPS / controller / self.cgroup.strip("/"))


def _remove_groups(folder: Path) -> None:
    """A group and those in it, from the leaves up; what is in use stays."""
    for each, _, _ in os.walk(folder, topdown=False):
        _rmdir(Path(each))


def _rmdir(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        pass


class Machines:
    """Several machines and the network between them."""

    def __init__(self, folder: Path, base: Path, *, binds: Sequence[str] = ()) -> None:
        self._folder, self._tree, self._binds = folder, base, binds
        self._machines: list[Machine] = []
        self._underlay = f"na-{os.getpid()}"
        run("ip", "netns", "add", self._underlay)
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "shared", "type", "bridge")
        self._ip("address", "add", f"{SHARED}.1/24", "dev", "shared")
        self._ip("link", "set", "shared", "up")

    def _ip(self, *argv: str, where: str = "") -> None:
        run("ip", "-n", where or self._underlay, *argv)

    def boot(self, name: str, last: int) -> Machine:
        """A new machine with the address 192.168.56.`last`, and 10.0.2.15 on its first interface like all others."""
        run("ip", "netns", "add", name)
        self._ip("link", "set", "lo", "up", where=name)
        nat, shared = f"nat{last}", f"port{last}"
        self._ip("link", "add", nat, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._ip("link", "add", shared, "type", "veth", "peer", "name", "eth1", "netns", name)
        self._ip("link", "set", shared, "master", "shared", "up")
        self._ip("link", "set", nat, "up")
        for link, address in (("eth0", "10.0.2.15/24"), ("eth1", f"{SHARED}.{last}/24")):
            self._ip("address", "add", address, "dev", link, where=name)
            self._ip("link", "set", link, "up", where=name)
        self._ip("route", "add", "default", "via", "10.0.2.2", where=name)
        made = Machine(name, f"{SHARED}.{last}", self._folder, self._tree, self._binds)
        self._machines.append(made)
        made.boot()
        return made

    def end(self) -> None:
        """Everything away."""
        for machine in self._machines:
            machine.end()
            run("ip", "netns", "delete", machine.name, check=False)
        for controller in CGROUPS.iterdir():
            _rmdir(controller / "nodeagent-lab/machines")
            _rmdir(controller / "nodeagent-lab")
            # systemd-nspawn's own, and those in which the runtime puts what has no controller.
            for name in ("payload", "supervisor", "k8s.io"):
                _remove_groups(controller / name)
        run("ip", "netns", "delete", self._underlay, check=False)
