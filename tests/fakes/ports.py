"""Published ports without a kernel: records in a dictionary, with the refusals of the real rules."""

from collections.abc import Collection, Sequence

from cni.ports import ruleset
from cni.ports.ruleset import Record


class FakePorts:
    """`cni.ports.publisher.Ports` in memory."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}

    def publish(self, record: Record, *, bridge: str) -> None:
        wanted = {**self.records, (record.container_id, record.ifname): record}
        ruleset.elements(wanted.values())
        self.records = wanted

    def withdraw(self, *, container_id: str, ifname: str) -> None:
        self.records.pop((container_id, ifname), None)

    def keep_only(self, valid: Collection[tuple[str, str]]) -> None:
        self.records = {key: record for key, record in self.records.items() if key in valid}

    def published(self) -> Sequence[Record]:
        return list(self.records.values())
