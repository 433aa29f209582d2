"""Links without a kernel: pairs in a dictionary, with the refusals of the real one."""

from collections.abc import Sequence

from cni import errors
from cni.attachment import Attachment, Made
from cni.capabilities import Bandwidth


class FakeLinks:
    """`cni.links.Links` in memory; `namespaces` are the paths that exist."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        self.namespaces = set(namespaces)
        self.shaped: dict[str, Bandwidth] = {}
        self.pairs: dict[str, tuple[str, Attachment]] = {}

    def attach(self, attachment: Attachment, *, netns_path: str) -> Made:
        self._open(netns_path)
        inside = {(path, made.pod_name) for path, made in self.pairs.values()}
        if attachment.host_name in self.pairs or (netns_path, attachment.pod_name) in inside:
            raise errors.CniError(errors.LINK_FAILURE, f"interface {attachment.pod_name} already exists")
        self.pairs[attachment.host_name] = (netns_path, attachment)
        return Made(bridge_mac=attachment.bridge.mac, host_mac="02:00:00:00:00:01")

    def detach(self, host_name: str) -> None:
        self.pairs.pop(host_name, None)

    def shape(self, host_name: str, limits: Bandwidth, *, shaper: str) -> None:
        if limits.ingress_rate or limits.egress_rate:
            self.shaped[host_name] = limits

    def problems(self, attachment: Attachment, *, netns_path: str) -> Sequence[str]:
        self._open(netns_path)
        made = self.pairs.get(attachment.host_name)
        if made is None:
            return [f"host interface {attachment.host_name} is missing"]
        return [f"address {a} is missing" for a in attachment.addresses if a not in made[1].addresses]

    def host_names(self, bridge: str) -> Sequence[str]:
        return [name for name, (_, made) in self.pairs.items() if made.bridge.name == bridge]

    def _open(self, path: str) -> None:
        if path not in self.namespaces:
            raise errors.CniError(errors.UNKNOWN_CONTAINER, f"cannot open network namespace {path}")
