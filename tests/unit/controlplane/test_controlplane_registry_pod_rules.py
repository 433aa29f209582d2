# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""The rules of pod specs: a sentence, what is wrong, and the words upstream answers."""

import copy
from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme

CASES: list[tuple[str, dict[str, Any], list[str]]] = []


def check(spec: dict[str, Any], meta: dict[str, Any] | None = None) -> list[str]:
    obj = {"metadata": {"name": "p", "namespace": "default", **(meta or {})}, "spec": copy.deepcopy(spec)}
    strategy = registry.strategy_for(scheme.PODS)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return [str(error) for error in strategy.validate_create(obj)]


def one(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "image": "x:1", **fields}]}


def with_volume(source: dict[str, Any]) -> dict[str, Any]:
    return {**one(), "serviceAccountName": "robot", "volumes": [{"name": "v", **source}]}


def pod(**fields: Any) -> dict[str, Any]:
    return {**one(), **fields}


C = "spec.containers[0]"
V = "spec.volumes[0]"


@pytest.mark.parametrize(
    ("sentence", "spec", "expected"),
    [
        ("a plain pod is fine", one(), []),
        ("a pod has containers", {"containers": []}, ["spec.containers: Required value"]),
        ("a container has an image", {"containers": [{"name": "c"}]}, [f"{C}.image: Required value"]),
        ("a container has a name", {"containers": [{"image": "x"}]}, [f"{C}.name: Required value"]),
        ("an image has no blanks around it", one(image="x "), [f'{C}.image: Invalid value: "x ": must not have leading or trailing whitespace']),
        ("container names are unique", {"containers": [one()["containers"][0], one()["containers"][0]]}, ['spec.containers[1].name: Duplicate value: "c"']),
        ("init containers share that space", pod(initContainers=[{"name": "c", "image": "x"}]), ['spec.initContainers[0].name: Duplicate value: "c"']),
        ("the restart policy is one of three", pod(restartPolicy="Sometimes"), ['spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"']),
        ("the DNS policy is one of four", pod(dnsPolicy="Mine"), ['spec.dnsPolicy: Unsupported value: "Mine": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"']),
        ("the pull policy is one of three", one(imagePullPolicy="Maybe"), [f'{C}.imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"']),
        ("so is where the last message comes from", one(terminationMessagePolicy="x"), [f'{C}.terminationMessagePolicy: Unsupported value: "x": supported values: "File", "FallbackToLogsOnError"']),
        ("the deadline is positive", pod(activeDeadlineSeconds=0), ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"]),
        ("the host name is a label", pod(hostname="a.b"), ['spec.hostname: Invalid value: "a.b": must not contain dots']),
        ("a host name of its own is no node's", pod(hostnameOverride="mine", hostNetwork=True), ["spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true"]),
        ("nor the full one", pod(hostnameOverride="mine", setHostnameAsFQDN=True), ["spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true"]),
        ("it is short", pod(hostnameOverride="a" * 65), ["spec.hostnameOverride: Too long: may not be more than 64 bytes"]),
        ("a runtime is Linux or Windows", pod(os={"name": "plan9"}), ['spec.os: Unsupported value: "plan9": supported values: "linux", "windows"']),
        ("a runtime that is set has a name", pod(os={}), ["spec.os.name: Required value: cannot be empty"]),
        ("preemption is one of two", pod(preemptionPolicy="x"), ['spec.preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never"']),
        ("gates are unique", pod(schedulingGates=[{"name": "a/b"}, {"name": "a/b"}]), ['spec.schedulingGates[1]: Duplicate value: "a/b"']),
        ("a gated pod has no node yet", pod(schedulingGates=[{"name": "a/b"}], nodeName="n"), ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]),
        ("debugging comes later", pod(ephemeralContainers=[{"name": "d", "image": "x"}]), ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
        ("users of its own, no host network", pod(hostUsers=False, hostNetwork=True), ["spec.hostNetwork: Forbidden: when `hostUsers` is false"]),
    ],
)  # fmt: skip
def test_the_pod_as_a_whole(sentence: str, spec: dict[str, Any], expected: list[str]) -> None:
    assert check(spec) == expected, sentence


PORT = {"containerPort": 80}


@pytest.mark.parametrize(
    ("sentence", "ports", "expected"),
    [
        ("a port is fine", [PORT], []),
        ("a port has a number", [{"name": "http"}], [f"{C}.ports[0].containerPort: Required value"]),
        ("below 65536", [{"containerPort": 65536}], [f"{C}.ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive"]),
        ("host ports too", [{**PORT, "hostPort": -1}], [f"{C}.ports[0].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive"]),
        ("names are unique", [{**PORT, "name": "a"}, {"containerPort": 81, "name": "a"}], [f'{C}.ports[1].name: Duplicate value: "a"']),
        ("names have a letter", [{**PORT, "name": "8080"}], [f'{C}.ports[0].name: Invalid value: "8080": must contain at least one letter (a-z)']),
        ("protocols are known", [{**PORT, "protocol": "ICMP"}], [f'{C}.ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"']),
        ("a host port is used once", [{**PORT, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}], [f'{C}.ports[1].hostPort: Duplicate value: "TCP//80"']),
        ("once per protocol", [{**PORT, "hostPort": 80}, {**PORT, "hostPort": 80, "protocol": "UDP"}], []),
    ],
)  # fmt: skip
def test_ports(sentence: str, ports: list[dict[str, Any]], expected: list[str]) -> None:
    assert check(one(ports=ports)) == expected, sentence


def test_on_the_host_network_both_ports_are_equal() -> None:
    spec = pod(hostNetwork=True, **one(ports=[{"containerPort": 80, "hostPort": 81}]))
    assert check(spec) == [
        f"{C}.ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"
    ]


E = f"{C}.env[0]"
SIZES = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
FIELDS = '"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"'


@pytest.mark.parametrize(
    ("sentence", "variable", "expected"),
    [
        ("a value", {"name": "A", "value": "b"}, []),
        ("a strange name is fine by now", {"name": "a b-1"}, []),
        ("a variable has a name", {"value": "b"}, [f"{E}.name: Required value"]),
        ("a name without =", {"name": "A="}, [f'{E}.name: Invalid value: "A=": a valid environment variable name must consist only of printable ASCII characters other than \'=\'']),
        ("a source says what", {"name": "A", "valueFrom": {}}, [f'{E}.valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`']),
        ("a value or a source", {"name": "A", "value": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, [f'{E}.valueFrom: Invalid value: "": may not be specified when `value` is not empty']),
        ("one source", {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}, "configMapKeyRef": {"name": "s", "key": "k"}}}, [f'{E}.valueFrom: Invalid value: "": may not have more than one field specified at a time']),
        ("a key is needed", {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s"}}}, [f"{E}.valueFrom.configMapKeyRef.key: Required value"]),
        ("a field is known", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.color"}}}, [f'{E}.valueFrom.fieldRef.fieldPath: Invalid value: "spec.color": error converting fieldPath: field label not supported: spec.color']),
        ("a field is allowed here", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}}, [f'{E}.valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: {FIELDS}']),
        ("one label is allowed", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}, []),
        ("only maps have members", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name['app']"}}}, [f'{E}.valueFrom.fieldRef.fieldPath: Invalid value: "metadata.name[\'app\']": error converting fieldPath: field label does not support subscript: metadata.name[\'app\']']),
        ("a field is named", {"name": "A", "valueFrom": {"fieldRef": {}}}, [f"{E}.valueFrom.fieldRef.fieldPath: Required value"]),
        ("a resource is named", {"name": "A", "valueFrom": {"resourceFieldRef": {}}}, [f"{E}.valueFrom.resourceFieldRef.resource: Required value"]),
        ("a resource is known", {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}, [f'{E}.valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"']),
        ("cpu is divided by 1m or 1", {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1Mi"}}}, [f'{E}.valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are supported with the cpu resource']),
        ("memory by a unit", {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "3"}}}, [f'{E}.valueFrom.resourceFieldRef.divisor: Invalid value: "limits.memory": only divisor\'s values {SIZES} are supported with the memory resource']),
        ("by Mi for instance", {"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}, []),
    ],
)  # fmt: skip
def test_environment(sentence: str, variable: dict[str, Any], expected: list[str]) -> None:
    assert check(one(env=[variable])) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "source", "expected"),
    [
        ("a whole map", {"configMapRef": {"name": "m"}}, []),
        ("a prefix", {"prefix": "X_", "secretRef": {"name": "s"}}, []),
        ("a source says what", {}, [f'{C}.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
        ("one of them", {"configMapRef": {"name": "m"}, "secretRef": {"name": "m"}}, [f'{C}.envFrom: Invalid value: "": may not have more than one field specified at a time']),
        ("by name", {"secretRef": {}}, [f"{C}.envFrom[0].secretRef.name: Required value"]),
    ],
)  # fmt: skip
def test_environment_from_whole_objects(sentence: str, source: dict[str, Any], expected: list[str]) -> None:
    assert check(one(envFrom=[source])) == expected, sentence


R = f"{C}.resources"


@pytest.mark.parametrize(
    ("sentence", "resources", "expected"),
    [
        ("requests up to the limits", {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}, []),
        ("but not above", {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}, [f'{R}.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
        ("nothing negative", {"limits": {"memory": "-1"}}, [f'{R}.limits[memory]: Invalid value: "-1": must be greater than or equal to 0', f'{R}.requests[memory]: Invalid value: "-1": must be greater than or equal to 0']),
        ("known names", {"requests": {"colour": "1"}}, [f'{R}.requests[colour]: Invalid value: "colour": must be a standard resource type or fully qualified', f'{R}.requests[colour]: Invalid value: "colour": must be a standard resource for containers']),
        ("names for containers", {"requests": {"pods": "1"}}, [f'{R}.requests[pods]: Invalid value: "pods": must be a standard resource for containers']),
        ("devices are equal in both", {"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}, [f'{R}.requests: Invalid value: "1": must be equal to example.com/gpu limit of 2']),
        ("devices are limited", {"requests": {"example.com/gpu": "1"}}, [f"{R}.limits: Required value: Limit must be set for non overcommitable resources"]),
        ("devices are whole", {"limits": {"example.com/gpu": "500m"}}, [f'{R}.limits[example.com/gpu]: Invalid value: "500m": must be an integer', f'{R}.requests[example.com/gpu]: Invalid value: "500m": must be an integer']),
        ("huge pages need a companion", {"limits": {"hugepages-2Mi": "2Mi"}}, [f"{R}: Forbidden: HugePages require cpu or memory"]),
        ("whole huge pages", {"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}, [f'{R}.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi', f'{R}.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi']),
        ("claims are the pod's", {"claims": [{"name": "a"}]}, [f'{R}.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty']),
    ],
)  # fmt: skip
def test_resources(sentence: str, resources: dict[str, Any], expected: list[str]) -> None:
    assert check(one(resources=resources)) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "resources", "expected"),
    [
        ("what its containers ask for", {"requests": {"cpu": "1"}}, []),
        ("not less", {"requests": {"cpu": "500m"}}, ['spec.resources.requests[cpu]: Invalid value: "500m": must be greater than or equal to aggregate container requests of 1']),
        ("no container above the pod", {"limits": {"cpu": "1500m"}}, ['spec.resources.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1500m']),
        ("known amounts", {"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}}, ['spec.resources.requests[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"']),
        ("no claims", {"requests": {"cpu": "1"}, "claims": [{"name": "a"}]}, ["spec.resources.claims: Forbidden: claims cannot be set for Resources at pod-level"]),
    ],
)  # fmt: skip
def test_resources_of_the_pod_as_a_whole(sentence: str, resources: dict[str, Any], expected: list[str]) -> None:
    container = one(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})
    assert check({**container, "resources": resources}) == expected, sentence


P = f"{C}.livenessProbe"


@pytest.mark.parametrize(
    ("sentence", "probe", "expected"),
    [
        ("a command", {"exec": {"command": ["true"]}}, []),
        ("by name of the port", {"tcpSocket": {"port": "http"}}, []),
        ("a probe does something", {}, [f"{P}: Required value: must specify a handler type"]),
        ("one thing", {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}, [f"{P}.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        ("a command is given", {"exec": {}}, [f"{P}.exec.command: Required value"]),
        ("a port is given", {"httpGet": {}}, [f"{P}.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive"]),
        ("a scheme is known", {"httpGet": {"port": 1, "scheme": "ftp"}}, [f'{P}.httpGet.scheme: Unsupported value: "ftp": supported values: "HTTP", "HTTPS"']),
        ("times are not negative", {"exec": {"command": ["x"]}, "periodSeconds": -1}, [f"{P}.periodSeconds: Invalid value: -1: must be greater than or equal to 0"]),
        ("one success is enough", {"exec": {"command": ["x"]}, "successThreshold": 2}, [f"{P}.successThreshold: Invalid value: 2: must be 1"]),
        ("grace is positive", {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 0}, [f"{P}.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0"]),
        ("probes do not sleep", {"sleep": {"seconds": 1}}, [f"{P}: Required value: must specify a handler type"]),
    ],
)  # fmt: skip
def test_probes(sentence: str, probe: dict[str, Any], expected: list[str]) -> None:
    assert check(one(livenessProbe=probe)) == expected, sentence


def test_readiness_may_need_several_successes_but_kills_nothing() -> None:
    probe = {"exec": {"command": ["x"]}, "successThreshold": 3}
    assert check(one(readinessProbe=probe)) == []
    assert check(one(readinessProbe={**probe, "terminationGracePeriodSeconds": 1})) == [
        f"{C}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes"
    ]


def test_a_last_sleep_fits_into_the_grace_period() -> None:
    assert check(one(lifecycle={"preStop": {"sleep": {"seconds": 5}}})) == []
    assert check(one(lifecycle={"preStop": {"sleep": {"seconds": 31}}})) == [
        f"{C}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than "
        "terminationGracePeriodSeconds (30)"
    ]


I = "spec.initContainers[0]"  # noqa: E741
ONLY_SIDECARS = "may not be set for init containers without restartPolicy=Always"


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("runs to its end", {}, []),
        ("is not probed", {"livenessProbe": {"exec": {"command": ["x"]}}}, [f"{I}.livenessProbe: Forbidden: {ONLY_SIDECARS}"]),
        ("unless it is a sidecar", {"restartPolicy": "Always", "livenessProbe": {"exec": {"command": ["x"]}}}, []),
        ("has no hooks", {"lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}, [f"{I}.lifecycle: Forbidden: {ONLY_SIDECARS}"]),
    ],
)  # fmt: skip
def test_init_containers(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(pod(initContainers=[{"name": "i", "image": "x", **fields}])) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "source", "expected"),
    [
        ("two sources are one too many", {"emptyDir": {}, "hostPath": {"path": "/x"}}, [f"{V}.hostPath: Forbidden: may not specify more than 1 volume type"]),
        ("a secret is named", {"secret": {}}, [f"{V}.secret.secretName: Required value"]),
        ("a config map is named", {"configMap": {}}, [f"{V}.configMap.name: Required value"]),
        ("a claim is named", {"persistentVolumeClaim": {}}, [f"{V}.persistentVolumeClaim.claimName: Required value"]),
        ("modes are octal", {"configMap": {"name": "m", "defaultMode": 512}}, [f"{V}.configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"]),
        ("items have key and path", {"secret": {"secretName": "s", "items": [{}]}}, [f"{V}.secret.items[0].key: Required value", f"{V}.secret.items[0].path: Required value"]),
        ("paths stay inside", {"configMap": {"name": "m", "items": [{"key": "k", "path": "../k"}]}}, [f'{V}.configMap.items[0].path: Invalid value: "../k": must not contain \'..\'']),
        ("paths are relative", {"configMap": {"name": "m", "items": [{"key": "k", "path": "/k"}]}}, [f'{V}.configMap.items[0].path: Invalid value: "/k": must be a relative path']),
        ("two dots are the kubelet's", {"configMap": {"name": "m", "items": [{"key": "k", "path": "..k"}]}}, [f'{V}.configMap.items[0].path: Invalid value: "..k": must not start with \'..\'']),
        ("a host path is given", {"hostPath": {}}, [f"{V}.hostPath.path: Required value"]),
        ("and does not go up", {"hostPath": {"path": "/a/../b"}}, [f'{V}.hostPath.path: Invalid value: "/a/../b": must not contain \'..\'']),
        ("of a known type", {"hostPath": {"path": "/a", "type": "Disk"}}, [f'{V}.hostPath.type: Unsupported value: "Disk": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"']),
        ("a size is positive", {"emptyDir": {"sizeLimit": "-1"}}, [f"{V}.emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"]),
        ("NFS is absolute", {"nfs": {"server": "s", "path": "x"}}, [f'{V}.nfs.path: Invalid value: "x": must be an absolute path']),
        ("a file shows one thing", {"downwardAPI": {"items": [{"path": "x"}]}}, [f"{V}.downwardAPI: Required value: one of fieldRef and resourceFieldRef is required"]),
        ("a file's resource is a container's", {"downwardAPI": {"items": [{"path": "x", "resourceFieldRef": {"resource": "limits.cpu"}}]}}, [f"{V}.downwardAPI.resourceFieldRef.containerName: Required value"]),
        ("a token lives ten minutes", {"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}, [f"{V}.projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"]),
        ("a part is one thing", {"projected": {"sources": [{"secret": {"name": "s"}, "configMap": {"name": "s"}}]}}, [f"{V}.projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"]),
        ("parts do not collide", {"projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "a", "path": "x"}]}}, {"configMap": {"name": "m", "items": [{"key": "a", "path": "x"}]}}]}}, [f'{V}.projected: Invalid value: "m": conflicting duplicate paths']),
        ("an image is named", {"image": {}}, [f"{V}.image.reference: Required value"]),
    ],
)  # fmt: skip
def test_volumes(sentence: str, source: dict[str, Any], expected: list[str]) -> None:
    assert check(with_volume(source)) == expected, sentence


def test_volume_names_are_labels_and_unique() -> None:
    volumes = [
        {"name": "v", "emptyDir": {}},
        {"name": "v", "emptyDir": {}},
        {"name": "a.b", "emptyDir": {}},
        {"emptyDir": {}},
    ]
    assert check(pod(volumes=volumes)) == [
        'spec.volumes[1].name: Duplicate value: "v"',
        'spec.volumes[2].name: Invalid value: "a.b": must not contain dots',
        "spec.volumes[3].name: Required value",
    ]


def test_a_token_needs_a_service_account() -> None:
    sources = [{"serviceAccountToken": {"path": "t"}}]
    assert check(pod(volumes=[{"name": "v", "projected": {"sources": sources}}])) == [
        f"{V}.projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"
    ]


M = f"{C}.volumeMounts"


@pytest.mark.parametrize(
    ("sentence", "mounts", "expected"),
    [
        ("a mount is fine", [{"name": "v", "mountPath": "/x"}], []),
        ("of a volume that exists", [{"name": "w", "mountPath": "/x"}], [f'{M}[0].name: Not found: "w"']),
        ("somewhere", [{"name": "v"}], [f"{M}[0].mountPath: Required value"]),
        ("each place once", [{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}], [f'{M}[1].mountPath: Invalid value: "/x": must be unique']),
        ("below the volume", [{"name": "v", "mountPath": "/x", "subPath": "../y"}], [f'{M}.subPath: Invalid value: "../y": must not contain \'..\'']),
        ("by one path", [{"name": "v", "mountPath": "/x", "subPath": "a", "subPathExpr": "b"}], [f'{M}[0].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually exclusive']),
        ("propagation is known", [{"name": "v", "mountPath": "/x", "mountPropagation": "Both"}], [f'{M}.mountPropagation: Unsupported value: "Both": supported values: "Bidirectional", "HostToContainer", "None"']),
        ("both ways is for the privileged", [{"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional"}], [f"{M}.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"]),
        ("wholly read-only is read-only", [{"name": "v", "mountPath": "/x", "recursiveReadOnly": "Enabled"}], [f"{M}.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"]),
    ],
)  # fmt: skip
def test_mounts(sentence: str, mounts: list[dict[str, Any]], expected: list[str]) -> None:
    spec = {**one(volumeMounts=mounts), "volumes": [{"name": "v", "emptyDir": {}}]}
    assert check(spec) == expected, sentence


S = f"{C}.securityContext"


@pytest.mark.parametrize(
    ("sentence", "context", "expected"),
    [
        ("ids are not negative", {"runAsUser": -1}, [f"{S}.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive"]),
        ("profiles are known", {"seccompProfile": {"type": "Mine"}}, [f'{S}.seccompProfile.type: Unsupported value: "Mine": supported values: "Localhost", "RuntimeDefault", "Unconfined"']),
        ("a local profile is named", {"seccompProfile": {"type": "Localhost"}}, [f"{S}.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"]),
        ("privileged may escalate", {"privileged": True, "allowPrivilegeEscalation": False}, [f'{S}: Invalid value: {{"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true']),
        ("proc mounts are known", {"procMount": "All"}, [f'{S}.procMount: Unsupported value: "All": supported values: "Default", "Unmasked"']),
        ("unmasked needs users of its own", {"procMount": "Unmasked"}, [f'{S}.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`']),
        ("AppArmor profiles are known", {"appArmorProfile": {}}, [f"{S}.appArmorProfile.type: Required value: type is required when appArmorProfile is set"]),
    ],
)  # fmt: skip
def test_security_of_containers(sentence: str, context: dict[str, Any], expected: list[str]) -> None:
    assert check(one(securityContext=context)) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "context", "expected"),
    [
        ("groups are not negative", {"supplementalGroups": [0, -1]}, ["spec.securityContext.supplementalGroups[1]: Invalid value: -1: must be between 0 and 4294967295, inclusive"]),
        ("kernel settings are named", {"sysctls": [{"name": ""}]}, ["spec.securityContext.sysctls[0].name: Required value"]),
        ("each once", {"sysctls": [{"name": "net.a"}, {"name": "net.a"}]}, ['spec.securityContext.sysctls[1].name: Duplicate value: "net.a"']),
        ("group changes are known", {"fsGroupChangePolicy": "x"}, ['spec.securityContext.fsGroupChangePolicy: Unsupported value: "x": supported values: "Always", "OnRootMismatch"']),
    ],
)  # fmt: skip
def test_security_of_pods(sentence: str, context: dict[str, Any], expected: list[str]) -> None:
    assert check(pod(securityContext=context)) == expected, sentence


T = "spec.tolerations[0]"


@pytest.mark.parametrize(
    ("sentence", "toleration", "expected"),
    [
        ("everything", {"operator": "Exists"}, []),
        ("one key for a while", {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}, []),
        ("no key means all", {"operator": "Equal"}, [f'{T}.operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys"']),
        ("a while means NoExecute", {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}, [f'{T}.effect: Invalid value: "NoSchedule": effect must be \'NoExecute\' when `tolerationSeconds` is set']),
        ("existing has no value", {"key": "a", "operator": "Exists", "value": "b"}, [f'{T}.operator: Invalid value: "b": value must be empty when `operator` is \'Exists\'']),
        ("operators are known", {"key": "a", "operator": "Like"}, [f'{T}.operator: Unsupported value: "Like": supported values: "Equal", "Exists"']),
        ("effects are known", {"key": "a", "effect": "Never"}, [f'{T}.effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"']),
    ],
)  # fmt: skip
def test_tolerations(sentence: str, toleration: dict[str, Any], expected: list[str]) -> None:
    assert check(pod(tolerations=[toleration])) == expected, sentence


NODE = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
TERMS = f"{NODE}.nodeSelectorTerms"
ANTI = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"


def on_nodes(**expression: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": "disk", **expression}]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


@pytest.mark.parametrize(
    ("sentence", "affinity", "expected"),
    [
        ("one of some values", on_nodes(operator="In", values=["ssd"]), []),
        ("more than a number", on_nodes(operator="Gt", values=["1"]), []),
        ("values are given", on_nodes(operator="In"), [f"{TERMS}[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"]),
        ("or not", on_nodes(operator="Exists", values=["x"]), [f"{TERMS}[0].matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"]),
        ("one number", on_nodes(operator="Lt", values=["1", "2"]), [f"{TERMS}[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"]),
        ("operators are known", on_nodes(operator="Is"), [f'{TERMS}[0].matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator']),
        ("terms are given", {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}, [f"{TERMS}: Required value: must have at least one node selector term"]),
        ("weights are 1 to 100", {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "preference": {}}]}}, ["spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100"]),
    ],
)  # fmt: skip
def test_affinity_to_nodes(sentence: str, affinity: dict[str, Any], expected: list[str]) -> None:
    assert check(pod(affinity=affinity)) == expected, sentence


def test_affinity_between_pods_says_within_what() -> None:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert check(pod(affinity=affinity))[0] == f"{ANTI}.topologyKey: Required value: can not be empty"


SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
TSC = "spec.topologySpreadConstraints"


@pytest.mark.parametrize(
    ("sentence", "constraints", "expected"),
    [
        ("evenly", [SPREAD], []),
        ("a skew is positive", [{**SPREAD, "maxSkew": 0}], [f"{TSC}[0].maxSkew: Invalid value: 0: must be greater than zero"]),
        ("over something", [{**SPREAD, "topologyKey": ""}], [f"{TSC}[0].topologyKey: Required value: can not be empty"]),
        ("or else", [{**SPREAD, "whenUnsatisfiable": "Wait"}], [f'{TSC}[0].whenUnsatisfiable: Unsupported value: "Wait": supported values: "DoNotSchedule", "ScheduleAnyway"']),
        ("each once", [SPREAD, SPREAD], [f'{TSC}[0].{{topologyKey, whenUnsatisfiable}}: Duplicate value: "{{zone, DoNotSchedule}}"']),
        ("domains only when strict", [{**SPREAD, "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}], [f"{TSC}[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"]),
        ("keys need a selector", [{**SPREAD, "matchLabelKeys": ["a"]}], [f"{TSC}[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"]),
    ],
)  # fmt: skip
def test_spreading(sentence: str, constraints: list[dict[str, Any]], expected: list[str]) -> None:
    assert check(pod(topologySpreadConstraints=constraints)) == expected, sentence


BAD_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("own servers", {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}, []),
        ("None needs a configuration", {"dnsPolicy": "None"}, ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
        ("with a server", {"dnsPolicy": "None", "dnsConfig": {}}, ["spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"]),
        ("three servers at most", {"dnsConfig": {"nameservers": ["1.1.1.1"] * 4}}, ['spec.dnsConfig.nameservers: Invalid value: ["1.1.1.1","1.1.1.1","1.1.1.1","1.1.1.1"]: must not have more than 3 nameservers']),
        ("servers are addresses", {"dnsConfig": {"nameservers": ["dns"]}}, [f'spec.dnsConfig.nameservers[0]: Invalid value: "dns": {BAD_IP}']),
        ("searches may hold underscores", {"dnsConfig": {"searches": [".", "_tcp.local."]}}, []),
        ("options have names", {"dnsConfig": {"options": [{"value": "1"}]}}, ["spec.dnsConfig.options[0]: Required value: must not be empty"]),
        ("aliases are addresses", {"hostAliases": [{"ip": "x", "hostnames": ["a"]}]}, [f'spec.hostAliases[0].ip: Invalid value: "x": {BAD_IP}']),
    ],
)  # fmt: skip
def test_names_and_addresses(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(pod(**fields)) == expected, sentence


def test_a_mirror_pod_has_a_node() -> None:
    note = {"annotations": {"kubernetes.io/config.mirror": "x"}}
    assert check(one(), note) == [
        'metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod '
        "annotation is set"
    ]


@pytest.mark.parametrize(("cost", "good"), [("-5", True), ("01", False), ("x", False), ("2147483648", False)])
def test_a_deletion_cost_is_a_number(cost: str, good: bool) -> None:
    found = check(one(), {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}})
    assert (found == []) is good


def test_a_usual_pod_costs_little() -> None:
    import time

    spec = with_volume({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}})
    spec["containers"][0] |= {
        "ports": [PORT],
        "env": [{"name": "A", "value": "b"}],
        "resources": {"limits": {"cpu": "1"}},
    }
    begin = time.process_time()
    for _ in range(200):
        assert check(spec) == []
    assert (time.process_time() - begin) / 200 < 0.003
