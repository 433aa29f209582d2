"""The server's configuration: what follows from it, and what is refused by field and reason."""

from pathlib import Path

import pytest

from controlplane import config, errors


def settings(**changes: object) -> config.Settings:
    fields = {"listen": ["127.0.0.1:6443", "192.0.2.2:6443"], **changes}
    return config.check(config.ServerConfiguration(**fields))  # type: ignore[arg-type]


def test_the_defaults_follow_from_each_other() -> None:
    found = settings()
    assert (found.service_ip, found.dns, found.port) == ("10.96.0.1", "10.96.0.10", 6443)
    assert found.advertise == "192.0.2.2"
    assert found.issuer == "https://kubernetes.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"service_cidr": "10.96.0.0"}, "serviceCIDR: '10.96.0.0': the prefix must be between /8 and /28"),
        ({"service_cidr": "nonsense"}, "serviceCIDR: 'nonsense'"),
        ({"cluster_cidr": "10.96.0.0/12"}, "clusterCIDR: '10.96.0.0/12': overlaps serviceCIDR"),
        ({"node_cidr_mask_size": 16}, "nodeCIDRMaskSize: 16: must be above 16"),
        ({"node_monitor_grace_period": "soon"}, "nodeMonitorGracePeriod: 'soon': invalid duration"),
        ({"node_monitor_grace_period": "0"}, "nodeMonitorGracePeriod: '0': must be at least 1s"),
        ({"cluster_dns": "10.96.0.1"}, "clusterDNS: '10.96.0.1'"),
        ({"cluster_dns": "10.0.0.1"}, "clusterDNS: '10.0.0.1': must be in serviceCIDR"),
        ({"listen": []}, "listen: []: name at least one ip:port"),
        ({"listen": ["localhost:6443"]}, "listen: 'localhost:6443': want ip:port"),
        ({"listen": ["127.0.0.1:0"]}, "listen: '127.0.0.1:0': the port must be"),
        ({"listen": ["0.0.0.0:6443"]}, "advertiseAddress: '': required"),
        ({"advertise_address": "here"}, "advertiseAddress: 'here': want an IP address"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_field_and_reason(changes: dict[str, object], part: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        settings(**changes)
    assert f"ServerConfiguration: {part}" in str(caught.value)


def test_an_unknown_field_is_refused_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("apiVersion: nodeagent/v1\nkind: ServerConfiguration\ndataDirectory: /x\n")
    with pytest.raises(errors.ConfigurationError, match=r"server\.yaml.*unknown field dataDirectory"):
        config.load(file)
