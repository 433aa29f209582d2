"""Pitfalls of the machine: kernel, cgroups, resources, the container runtime. PURE."""

from typing import Final

from nodeagent.doctor.facts import Facts
from nodeagent.doctor.verdict import FAILURE, Check, Finding
from nodeagent.install import layout

GIB, MIB = 1 << 30, 1 << 20
LEAST_MEMORY, LEAST_CPUS, LEAST_DISK = 512 * MIB, 1, 2 * GIB
LEAST_INSTANCES, LEAST_WATCHES, LEAST_FILES = 1024, 65536, 65536
DOWNLOADS: Final = "apt-get install --no-install-recommends"


def root(it: Facts) -> Finding | None:
    if it.root:
        return None
    return Finding(level=FAILURE, saw="this is not root", fix="sudo nodeagent doctor")


def cri(it: Facts) -> Finding | None:
    disabled = it.containerd_config.get("disabled_plugins") or []
    if any("cri" in each for each in disabled):
        return Finding(
            level=FAILURE,
            saw=f"containerd's configuration disables {', '.join(disabled)}",
            fix="nodeagent install agent ... (it writes a configuration with CRI on beside the host's own)",
        )
    if it.cri != "ok":
        return Finding(
            level=FAILURE, saw=f"the CRI socket: {it.cri}", fix="systemctl restart containerd; journalctl -u containerd"
        )
    return None


def cgroups(it: Facts) -> Finding | None:
    wanted = it.runtime_driver
    have = str(it.kubelet.get("cgroupDriver") or "")
    if wanted and have and wanted != have:
        return Finding(
            saw=f"containerd uses the {wanted} cgroup driver, the configuration says {have}",
            fix="nodeagent install agent ... again; it follows containerd",
        )
    if not it.unified:
        fix = "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot"
        return Finding(saw="the host runs cgroup v1", fix=fix)
    return None


def inotify(it: Facts) -> Finding | None:
    instances, watches = it.sysctls.get("inotify_instances", 1 << 20), it.sysctls.get("inotify_watches", 1 << 20)
    if instances >= LEAST_INSTANCES and watches >= LEAST_WATCHES:
        return None
    fix = "sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288"
    return Finding(saw=f"inotify allows {instances} instances and {watches} watches", fix=fix, safe=True)


def swap(it: Facts) -> Finding | None:
    if not it.swap:
        return None
    return Finding(saw=f"swap is on: {', '.join(it.swap)}", fix="swapoff -a, and take it out of /etc/fstab")


def machine_id(it: Facts) -> Finding | None:
    if it.machine_id:
        return None
    fix = "rm -f /etc/machine-id; systemd-machine-id-setup"
    return Finding(level=FAILURE, saw="/etc/machine-id is empty", fix=fix)


def links(it: Facts) -> Finding | None:
    if not it.missing_links:
        return None
    kinds = ", ".join(it.missing_links)
    return Finding(
        level=FAILURE,
        saw=f"the kernel makes no links of kind {kinds}",
        fix="modprobe " + " ".join(it.missing_links) + "; on RHEL 10 first: dnf install kernel-modules-extra",
    )


def programs(it: Facts) -> Finding | None:
    if not it.missing_programs:
        return None
    from nodeagent.install.release import PROGRAMS

    packages = sorted({PROGRAMS.get(each, each) for each in it.missing_programs})
    return Finding(
        level=FAILURE, saw=f"not installed: {', '.join(it.missing_programs)}", fix=f"{DOWNLOADS} {' '.join(packages)}"
    )


def resources(it: Facts) -> Finding | None:
    short = []
    if it.memory and it.memory < LEAST_MEMORY:
        short.append(f"{it.memory // MIB} MiB of memory (want {LEAST_MEMORY // MIB})")
    if it.disk and it.disk < LEAST_DISK:
        short.append(f"{it.disk // MIB} MiB free in /var/lib (want {LEAST_DISK // MIB})")
    if it.cpus and it.cpus < LEAST_CPUS:
        short.append(f"{it.cpus} processors (want {LEAST_CPUS})")
    if not short:
        return None
    return Finding(
        saw=", ".join(short),
        fix="give the machine more, or free some: nodeagent image ls; journalctl --vacuum-size=100M",
    )


def selinux(it: Facts) -> Finding | None:
    if not it.selinux:
        return None
    return Finding(
        saw="SELinux is enforcing",
        fix="dnf install container-selinux; ausearch -m avc -ts recent shows what was denied",
    )


def runtimes(it: Facts) -> Finding | None:
    if len(it.sockets) < 2:
        return None
    fix = "name one: AgentConfiguration.containerRuntimeEndpoint: unix:///run/containerd/containerd.sock"
    return Finding(saw=f"several container runtimes: {', '.join(it.sockets)}", fix=fix)


def nft(it: Facts) -> Finding | None:
    if it.nft == (1, 1, 3):
        text, fix = (
            "nft 1.1.3 loses rules of named sets",
            f"{DOWNLOADS} nftables, or KubeProxyConfiguration.mode: iptables",
        )
    elif (0, 0, 0) < it.nft < (1, 0, 1):
        text, fix = f"nft {'.'.join(map(str, it.nft))} is too old", "set KubeProxyConfiguration.mode: iptables"
    elif (0, 0) < it.kernel < (5, 13):
        text, fix = (
            f"kernel {it.kernel[0]}.{it.kernel[1]} is older than 5.13",
            "set KubeProxyConfiguration.mode: iptables",
        )
    else:
        return None
    return Finding(saw=text, fix=fix)


def kvm(it: Facts) -> Finding | None:
    if it.kvm or it.virtual:
        return None
    fix = "switch virtualization on in the firmware (VT-x, AMD-V); modprobe kvm_intel or kvm_amd"
    return Finding(saw="there is no /dev/kvm: machines of Vagrant's would be very slow here", fix=fix)


def cni_folders(it: Facts) -> Finding | None:
    plugins = it.containerd_config.get("plugins") or {}
    for name in ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"):
        folder = ((plugins.get(name) or {}).get("cni") or {}).get("bin_dir")
        if folder and folder != "/opt/cni/bin":
            fix = "nodeagent install agent ... (its configuration of containerd names our folders)"
            return Finding(level=FAILURE, saw=f"containerd looks for CNI plugins in {folder}", fix=fix)
    return None


def image(it: Facts) -> Finding | None:
    if it.image == "ok":
        return None
    fix = "nodeagent image load FILE, or a mirror in /etc/containerd/certs.d, or install with --sandbox-image"
    return Finding(level=FAILURE, saw=f"the sandbox image cannot be had: {it.image}", fix=fix)


def files(it: Facts) -> Finding | None:
    if it.nofile >= LEAST_FILES:
        return None
    return Finding(
        saw=f"at most {it.nofile} open files",
        fix="raise the limit: LimitNOFILE= in the unit, /etc/security/limits.conf",
    )


def interrupted(it: Facts) -> Finding | None:
    if not it.installed or it.installed.get("complete"):
        return None
    role = it.installed.get("role", "agent")
    return Finding(
        level=FAILURE,
        saw=f"an installation as {role} was interrupted ({layout.RECORD} says so)",
        fix=f"run the same `nodeagent install {role}` again, or: nodeagent uninstall",
    )


CHECKS: Final = (
    Check(number=0, name="root", why="interfaces, mounts and cgroups need it", judge=root),
    Check(number=2, name="cri", why="without CRI containerd runs no pod: `unknown service runtime.v1`", judge=cri),
    Check(
        number=3, name="cgroups", why="two drivers fight over one tree: pods restart every few minutes", judge=cgroups
    ),
    Check(number=8, name="swap", why="memory limits and evictions are wrong when pods swap", judge=swap),
    Check(
        number=9, name="machine-id", why="nodes are told apart by it; clones take each other's place", judge=machine_id
    ),
    Check(number=14, name="links", why="the pods' network is made of them", judge=links),
    Check(number=15, name="inotify", why="programs in pods fail with `too many open files`", judge=inotify),
    Check(number=20, name="resources", why="pods would be evicted as soon as they run", judge=resources),
    Check(number=21, name="selinux", why="volumes and sockets may be denied to pods", judge=selinux),
    Check(
        number=24, name="runtimes", why="pods could be in another runtime than the one you look into", judge=runtimes
    ),
    Check(number=25, name="nft", why="Services' rules vanish or cannot be written", judge=nft),
    Check(number=26, name="kvm", why="virtual machines without it are emulated", judge=kvm),
    Check(
        number=27, name="cni-folders", why="pods stay in ContainerCreating: NetworkPluginNotReady", judge=cni_folders
    ),
    Check(number=28, name="sandbox-image", why="every pod needs it before its own images", judge=image),
    Check(number=0, name="programs", why="the agent calls them", judge=programs),
    Check(number=0, name="open-files", why="a busy node needs many sockets and files", judge=files),
    Check(
        number=0, name="interrupted", why="half an installation may run with half a configuration", judge=interrupted
    ),
)
