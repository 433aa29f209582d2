"""The plugin as a process of its own, where there is no daemon (other runtimes, a dead agent), and host clean-up."""

import os
import sys


def plugin() -> int:
    """One CNI call: environment and standard input in, result or error on standard output, exit code out."""
    from cni.plugin import Plugin

    code, body = Plugin().call(os.environ, sys.stdin.buffer.read())
    sys.stdout.buffer.write(body)
    return code


def cleanup() -> int:
    """Removes our rules, routes and bridge from this host; pods that still run lose their network. Safe twice."""
    import asyncio

    from cni import daemon
    from cni.config import CNIConfiguration
    from cni.links import KernelLinks
    from cni.overlay.kernel import PROTOCOL, KernelFabric
    from cni.overlay.plan import Change

    bridge = CNIConfiguration().bridge
    asyncio.run(daemon.remove_rules())
    fabric, links = KernelFabric(), KernelLinks()
    fabric.apply(Change(remove=tuple(fabric.observe())))
    fabric.ensure(())
    for name in (*links.host_names(bridge), bridge):
        links.detach(name)
    print(f"removed: bridge {bridge}, its interfaces, VXLAN devices, routes of protocol {PROTOCOL}, nft tables")
    return 0
