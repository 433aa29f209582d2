"""The agent's configuration: defaults, precedence, and refusals that name field and reason."""

from pathlib import Path
from typing import Any

import pytest

from nodeagent import config, errors


def agent(**fields: Any) -> dict[str, list[dict[str, Any]]]:
    return {"AgentConfiguration": [{"apiVersion": "nodeagent/v1", "kind": "AgentConfiguration", **fields}]}


def kubelet(**fields: Any) -> dict[str, list[dict[str, Any]]]:
    head = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    return {"KubeletConfiguration": [{**head, **fields}]}


def test_without_documents_everything_has_upstreams_default() -> None:
    found = config.build({}, source="x")
    assert found.runtime_endpoint == "unix:///run/containerd/containerd.sock"
    assert (found.sync_frequency, found.restart_cap, found.status_update, found.status_report) == (60, 300, 10, 300)
    assert found.root == Path("/var/lib/kubelet") and found.kubelet.max_pods == 110
    assert found.kubelet.eviction_hard["memory.available"] == "100Mi"
    assert found.kubelet.eviction_hard["imagefs.available"] == "15%"


def test_the_agents_own_fields_win_over_the_kubelets() -> None:
    both = agent(servingCert="/a", containerRuntimeEndpoint="unix:///a") | kubelet(
        tlsCertFile="/k", tlsPrivateKeyFile="/kk", containerRuntimeEndpoint="unix:///k"
    )
    found = config.build(both, source="x")
    assert (found.serving_cert, found.serving_key, found.runtime_endpoint) == ("/a", "/kk", "unix:///a")


def test_drop_ins_are_merged_in_order() -> None:
    found = kubelet(maxPods=10, kubeReserved={"cpu": "1"})
    found["KubeletConfiguration"].append(kubelet(maxPods=20)["KubeletConfiguration"][0])
    built = config.build(found, source="x")
    assert built.kubelet.max_pods == 20 and built.kubelet.kube_reserved == {"cpu": "1"}


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        (agent(nodeIP="host"), "AgentConfiguration.nodeIP: 'host' is not an IP address"),
        (agent(nodeName="Node_1"), "AgentConfiguration.nodeName: 'Node_1' is not a DNS name in lower case"),
        (agent(containerRuntimeEndpoint="tcp://x"), "only unix:///path is supported"),
        (kubelet(clusterDNS=["x"]), "KubeletConfiguration.clusterDNS: 'x' is not an IP address"),
        (kubelet(syncFrequency="soon"), "KubeletConfiguration.syncFrequency"),
        (kubelet(syncFrequency="0s"), "'0s' is not longer than nothing"),
        (kubelet(cgroupDriver="other"), "supported: cgroupfs, systemd"),
        (kubelet(cgroupRoot="x"), "KubeletConfiguration.cgroupRoot: 'x' is not an absolute path"),
        (kubelet(kubeReserved={"cpu": "lots"}), "KubeletConfiguration.kubeReserved.cpu: 'lots' is not a quantity"),
        (kubelet(maxPods=-1), "KubeletConfiguration.maxPods: -1 is negative"),
        (kubelet(port=70000), "KubeletConfiguration.port: 70000 is not in 0-65535"),
        (
            kubelet(evictionHard={"disk": "10%"}),
            "KubeletConfiguration.evictionHard.disk: unknown signal, supported: mem",
        ),
        (kubelet(evictionHard={"nodefs.available": "110%"}), "'110%' is not between 0% and 100%"),
        (kubelet(evictionSoft={"nodefs.available": "much"}), "'much' is neither a quantity nor a percentage"),
        (kubelet(evictionSoft={"pid.available": "9"}), "evictionSoftGracePeriod.pid.available: required for a soft"),
        (kubelet(imageGCLowThresholdPercent=90), "imageGCLowThresholdPercent: 90 is not in 0-85"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(documents: Any, said: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        config.build(documents, source="/etc/x")
    assert said in str(caught.value) and str(caught.value).startswith("/etc/x: ")


def test_an_unsupported_field_is_refused_by_name_and_file(tmp_path: Path) -> None:
    file = tmp_path / "kubelet.yaml"
    file.write_text("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailSwapOn: true\n")
    with pytest.raises(errors.ConfigError, match=f"{file}.*failSwapOn"):
        config.read(tmp_path)
