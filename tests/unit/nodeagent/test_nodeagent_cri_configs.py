"""What CRI is told of a pod: sandbox, containers, users, names, resolver, hosts file."""

from typing import Any

import pytest
from nodeagent_given import IMAGE, UID, container, pod

from kube import types
from nodeagent import errors
from nodeagent.cri import labels, records
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.pods import container as containers
from nodeagent.pods import dns, sandbox

CLUSTER = dns.Cluster(servers=("10.96.0.10",))
HOST = dns.Resolver(servers=("192.0.2.1",), searches=("example.com",), options=("timeout:1",))
ROOT_IMAGE = records.Image(id="sha256:bb")


def box(of: types.Pod, **more: Any) -> cri.PodSandboxConfig:
    found = dns.resolver(of, host=HOST, cluster=CLUSTER)
    facts = sandbox.Facts(log_directory="/l", cgroup_parent="/c", resolver=found, cluster=CLUSTER, **more)
    return sandbox.config(of, attempt=3, facts=facts)


def made(of: types.Pod, *, image: records.Image = ROOT_IMAGE, **more: Any) -> cri.ContainerConfig:
    return containers.config(of, of.spec.containers[0], containers.Facts(image=image, restart_count=2, **more))


def user_of(found: cri.ContainerConfig) -> tuple[int, int, list[int]]:
    context = found.linux.security_context
    return context.run_as_user.value, context.run_as_group.value, list(context.supplemental_groups)


def test_a_sandbox_carries_what_it_takes_to_find_the_pod_again() -> None:
    found = box(pod(metadata={"labels": {"app": "web"}, "annotations": {"a": "b"}}))
    assert dict(found.labels) == {
        "app": "web",
        labels.POD_NAME: "web",
        labels.POD_NAMESPACE: "default",
        labels.POD_UID: UID,
    }
    assert (found.metadata.uid, found.metadata.attempt, found.hostname) == (UID, 3, "web")
    assert dict(found.annotations) == {"a": "b"} and found.linux.cgroup_parent == "/c"


def test_a_pod_in_the_hosts_network_has_no_hostname_and_no_port_mappings() -> None:
    found = box(pod(container(ports=[{"containerPort": 80, "hostPort": 80}]), hostNetwork=True))
    assert found.hostname == "" and not found.port_mappings
    assert found.linux.security_context.namespace_options.network == cri.NODE


def test_ports_of_the_node_are_mapped() -> None:
    ports = [{"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "10.0.0.1"}, {"containerPort": 80}]
    (found,) = box(pod(container(ports=ports))).port_mappings
    assert (found.protocol, found.container_port, found.host_port, found.host_ip) == (cri.UDP, 53, 5353, "10.0.0.1")


@pytest.mark.parametrize(
    ("spec", "pid", "ipc"),
    [
        ({}, cri.CONTAINER, cri.POD),
        ({"shareProcessNamespace": True}, cri.POD, cri.POD),
        ({"hostPID": True, "hostIPC": True}, cri.NODE, cri.NODE),
    ],
)
def test_namespaces(spec: dict[str, Any], pid: int, ipc: int) -> None:
    options = made(pod(**spec)).linux.security_context.namespace_options
    assert (options.pid, options.ipc, options.network) == (pid, ipc, cri.POD)


def test_an_ephemeral_container_may_look_into_another() -> None:
    of = pod(ephemeralContainers=[container("debug")])
    facts = containers.Facts(image=ROOT_IMAGE, restart_count=0, target="abc")
    options = containers.config(of, of.spec.ephemeral_containers[0], facts).linux.security_context.namespace_options
    assert (options.pid, options.target_id) == (cri.TARGET, "abc")


def test_a_container_is_annotated_for_an_agent_that_forgot_everything() -> None:
    found = made(pod(container(lifecycle={"preStop": {"sleep": {"seconds": 1}}}), terminationGracePeriodSeconds=5))
    assert found.annotations[labels.RESTART_COUNT] == "2" and found.annotations[labels.POD_GRACE] == "5"
    assert found.annotations[labels.TERMINATION_PATH] == "/dev/termination-log"
    assert '"seconds":1' in found.annotations[labels.PRE_STOP]
    assert found.labels[labels.CONTAINER_NAME] == "main" and found.log_path == "main/2.log"
    assert (found.image.image, found.image.user_specified_image) == ("sha256:bb", IMAGE)


@pytest.mark.parametrize(
    ("pods", "own", "image", "expected"),
    [
        ({}, {}, ROOT_IMAGE, (0, 0, [])),
        ({"runAsUser": 1000, "runAsGroup": 1001}, {}, ROOT_IMAGE, (1000, 1001, [])),
        ({"runAsUser": 1000}, {"runAsUser": 5}, ROOT_IMAGE, (5, 0, [])),
        ({}, {}, records.Image(id="x", uid=7), (7, 0, [])),
        ({"fsGroup": 9, "supplementalGroups": [8]}, {}, ROOT_IMAGE, (0, 0, [9, 8])),
    ],
)
def test_users_and_groups(pods: Any, own: Any, image: records.Image, expected: tuple[int, int, list[int]]) -> None:
    assert user_of(made(pod(container(securityContext=own), securityContext=pods), image=image)) == expected


def test_an_image_may_name_its_user() -> None:
    found = made(pod(), image=records.Image(id="x", username="web")).linux.security_context
    assert found.run_as_username == "web" and not found.HasField("run_as_user")


@pytest.mark.parametrize(
    ("context", "image", "said"),
    [
        ({"runAsNonRoot": True}, ROOT_IMAGE, "image will run as root"),
        ({"runAsNonRoot": True, "runAsUser": 0}, ROOT_IMAGE, "runAsUser breaks non-root policy"),
        ({"runAsNonRoot": True}, records.Image(id="x", username="web"), "non-numeric user (web)"),
    ],
)
def test_non_root_is_checked(context: Any, image: records.Image, said: str) -> None:
    with pytest.raises(errors.StartError) as caught:
        made(pod(container(securityContext=context)), image=image)
    assert caught.value.reason == "CreateContainerConfigError" and said in caught.value.message


def test_non_root_is_fine_with_another_user() -> None:
    assert user_of(made(pod(container(securityContext={"runAsNonRoot": True, "runAsUser": 5}))))[0] == 5


def test_an_ordinary_container_has_masked_paths_and_a_privileged_one_has_none() -> None:
    ordinary = made(pod()).linux.security_context
    assert "/proc/kcore" in ordinary.masked_paths and "/proc/sys" in ordinary.readonly_paths
    privileged = made(pod(container(securityContext={"privileged": True}))).linux.security_context
    assert privileged.privileged and not privileged.masked_paths and not privileged.readonly_paths


@pytest.mark.parametrize(
    ("own", "default", "expected"),
    [
        (None, False, cri.SecurityProfile.Unconfined),
        (None, True, cri.SecurityProfile.RuntimeDefault),
        ({"type": "RuntimeDefault"}, False, cri.SecurityProfile.RuntimeDefault),
        ({"type": "Localhost", "localhostProfile": "p.json"}, False, cri.SecurityProfile.Localhost),
    ],
)
def test_seccomp(own: Any, default: bool, expected: int) -> None:
    of = pod(container(securityContext={"seccompProfile": own} if own else {}))
    profile = made(of, seccomp_default=default).linux.security_context.seccomp
    assert profile.profile_type == expected
    assert profile.localhost_ref == ("p.json" if expected == cri.SecurityProfile.Localhost else "")


def test_capabilities_and_privilege_escalation() -> None:
    own = {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}, "allowPrivilegeEscalation": False}
    found = made(pod(container(securityContext={**own, "readOnlyRootFilesystem": True}))).linux.security_context
    assert list(found.capabilities.add_capabilities) == ["NET_ADMIN"] and found.no_new_privs and found.readonly_rootfs
    assert not made(pod()).linux.security_context.no_new_privs


def test_limits_of_a_container() -> None:
    asked = {"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}
    found = made(pod(container(resources=asked)), memory_capacity=1 << 30).linux.resources
    assert (found.cpu_shares, found.cpu_quota, found.cpu_period) == (512, 100_000, 100_000)
    assert found.memory_limit_in_bytes == 128 << 20 and found.oom_score_adj == 938


@pytest.mark.parametrize(
    ("spec", "servers", "searches", "options"),
    [
        (
            {},
            ["10.96.0.10"],
            ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"],
            ["ndots:5"],
        ),
        ({"dnsPolicy": "Default"}, ["192.0.2.1"], ["example.com"], ["timeout:1"]),
        ({"hostNetwork": True}, ["192.0.2.1"], ["example.com"], ["timeout:1"]),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            ["10.96.0.10"],
            ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"],
            ["ndots:5"],
        ),
        (
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"]}},
            ["1.1.1.1"],
            ["a.b"],
            [],
        ),
    ],
)
def test_the_resolver_follows_the_policy(spec: Any, servers: Any, searches: Any, options: Any) -> None:
    found = box(pod(**spec)).dns_config
    assert (list(found.servers), list(found.searches), list(found.options)) == (servers, searches, options)


def test_an_option_of_the_pod_replaces_one_of_the_same_name() -> None:
    config = {
        "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
        "nameservers": ["1.1.1.1", "10.96.0.10"],
    }
    found = box(pod(dnsConfig=config)).dns_config
    assert list(found.options) == ["ndots:2", "rotate"] and list(found.servers) == ["10.96.0.10", "1.1.1.1"]


def test_a_resolver_keeps_within_what_the_c_library_reads() -> None:
    config = {"nameservers": [f"1.1.1.{n}" for n in range(5)], "searches": [f"s{n}.example" for n in range(40)]}
    found = box(pod(dnsPolicy="None", dnsConfig=config)).dns_config
    assert len(found.servers) == 3 and len(found.searches) == 32


def test_resolv_conf_is_read_as_the_c_library_reads_it() -> None:
    text = "# c\nnameserver 1.1.1.1 # x\nsearch a\nsearch b c. \noptions ndots:3 ; y\nnameserver 2.2.2.2\nfoo\n"
    assert dns.parse(text) == dns.Resolver(servers=("1.1.1.1", "2.2.2.2"), searches=("b", "c"), options=("ndots:3",))


def test_the_hostname_is_cut_and_may_be_fully_qualified() -> None:
    assert dns.hostname(pod(metadata={"name": "a" * 62 + ".b"})) == "a" * 62
    full = pod(hostname="h", subdomain="sub", setHostnameAsFQDN=True)
    assert dns.sandbox_hostname(full, cluster=CLUSTER) == "h.sub.default.svc.cluster.local"


def test_the_hosts_file_knows_the_pod_and_its_aliases() -> None:
    aliases = [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]
    text = dns.hosts_file(
        pod(hostname="h", subdomain="s", hostAliases=aliases), ips=["10.0.0.1"], cluster=CLUSTER, host_text=""
    )
    assert "10.0.0.1\th.s.default.svc.cluster.local\th\n" in text and "1.2.3.4\ta\tb\n" in text
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")


def test_the_hosts_file_of_the_hosts_network_is_the_hosts() -> None:
    text = dns.hosts_file(pod(hostNetwork=True), ips=[], cluster=CLUSTER, host_text="127.0.0.1 localhost\n")
    assert text == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
