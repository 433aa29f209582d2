"""The systemd units, as text. PURE.

`KillMode=process`: a stop or restart ends our process and no pod. `Delegate=yes`: the cgroups below are ours. Nothing
that gives the agent a mount namespace of its own (ProtectSystem=, PrivateTmp=, ...): its mounts must reach the pods.
"""

from typing import Final

from nodeagent.install import layout

PYTHON: Final = layout.CURRENT / "bin" / "python"
WATCHDOG_SECONDS: Final = 60
_COMMON = """
[Install]
WantedBy=multi-user.target
"""
# What every process of ours can do without; none of it makes a mount namespace.
_HARDENING = """NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
SystemCallArchitectures=native
"""
_CONFINED = """ProtectSystem=strict
ProtectHome=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectClock=yes
PrivateTmp=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
"""


def server() -> str:
    """The control plane: files of its own and sockets, and nothing else of the host."""
    return (
        _head("Kubernetes control plane (nodeagent)", after="network-online.target")
        + _service("server", stop_seconds=75)
        + _HARDENING
        + _CONFINED
        + "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n"
        + "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
        + f"ReadWritePaths={layout.ETC} {layout.STATE}\n"
        + _COMMON
    )


def agent() -> str:
    """The node agent: kubelet, pod network and service proxy; it needs the whole host."""
    return (
        _head(
            "Kubernetes node agent (nodeagent)",
            after=f"{layout.CONTAINERD_UNIT} network-online.target {layout.SERVER_UNIT}",
            wants=layout.CONTAINERD_UNIT,
        )
        + _service("agent", stop_seconds=30)
        + "Delegate=yes\nTasksMax=infinity\nLimitNOFILE=1048576\n"
        + _HARDENING
        + _COMMON
    )


def dns() -> str:
    """Cluster DNS on this node: it may bind an address and set rules for it, and read its configuration."""
    return (
        _head("Kubernetes cluster DNS on this node (nodeagent)", after=f"network-online.target {layout.AGENT_UNIT}")
        + _service("dns", stop_seconds=15)
        + _HARDENING
        + _CONFINED
        + "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n"
        + "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_RAW\n"
        + _COMMON
    )


def containerd(program: str) -> str:
    """What we add to containerd's own unit: our configuration, made from its own."""
    return f"[Service]\nExecStart=\nExecStart={program} --config {layout.CONTAINERD_OURS}\n"


def _head(description: str, *, after: str, wants: str = "") -> str:
    return (
        "[Unit]\n"
        f"Description={description}\n"
        f"After={after}\n"
        f"Wants={' '.join(filter(None, ('network-online.target', wants)))}\n"
        "StartLimitIntervalSec=0\n\n"
    )


def _service(command: str, *, stop_seconds: int) -> str:
    """READY comes after the first successful loop, which may wait for a server that is down: no limit on the start."""
    return (
        "[Service]\n"
        "Type=notify\n"
        "NotifyAccess=main\n"
        f"ExecStart={PYTHON} -m nodeagent {command} --config {layout.ETC}\n"
        "ExecReload=/bin/kill -HUP $MAINPID\n"
        "Restart=always\n"
        "RestartSec=5\n"
        "TimeoutStartSec=infinity\n"
        f"TimeoutStopSec={stop_seconds}\n"
        f"WatchdogSec={WATCHDOG_SECONDS}\n"
        "KillMode=process\n"
        "OOMScoreAdjust=-999\n"
        "Environment=PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1\n"
    )
