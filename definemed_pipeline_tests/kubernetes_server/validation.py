"""What the API server refuses to store: what the official schemas (oldest and newest, strictly) do not know or cannot say.

The rules beside the schemas are those of Kubernetes' own validation that a Job, its pods or its Service can break. Fields that
exist but that this server does not act upon are refused with 501, so that no test passes because something was ignored. Accepted
and ignored are only those that say where a pod may run and with which rights: node selector, affinity, tolerations, priority
class, service account, security context.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate
from kubernetes.utils.quantity import parse_quantity

from definemed_pipeline_tests.kubernetes_server.refusals import Refusal, invalid
from definemed_pipeline_tests.kubernetes_server.store import KINDS, Object

OLDEST, NEWEST = "1.31", ".".join(kubernetes_validate.latest_version().split(".")[:2])
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
LOWER_CASE = "must consist of lower case alphanumeric characters or '-'"
LONGEST_ANNOTATIONS = 256 * 1024
IMMUTABLE = "field is immutable"
UNSERVED_JOB = ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy", "managedBy", "manualSelector")
UNSERVED_POD = ("initContainers", "ephemeralContainers", "schedulingGates", "resourceClaims", "hostAliases")
UNSERVED_CONTAINER = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "restartPolicy", "volumeDevices")
SERVED_VOLUMES = {"emptyDir", "persistentVolumeClaim", "secret", "hostPath"}
SERVED_FIELDS = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]|spec\.nodeName|status\.podIP"
)
FIXED_JOB_FIELDS = ("completions", "completionMode", "selector", "podFailurePolicy", "podReplacementPolicy")
# What may change in the template of a Job that is suspended and has not started: where its pods may run.
SCHEDULING = ("nodeSelector", "tolerations", "affinity")
Errors = Iterator[str]


def validate_schema(plural: str, one: Object) -> None:
    """Raise Refusal (422) where an object is not what the official schemas describe."""
    for version in (OLDEST, NEWEST):
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            raise _refused(plural, one, [f"{where}: {error.message} (schema of Kubernetes {version})"]) from error


def validate(plural: str, one: Object) -> None:
    """Raise Refusal (422) with every rule that an object with all its defaults breaks, or 501 for what is not served."""
    rules = {"jobs": _job, "pods": _pod, "services": _service, "events": lambda _: iter(())}
    if errors := [*_metadata(plural, one["metadata"], "metadata"), *rules[plural](one)]:
        raise _refused(plural, one, errors)


def validate_update(plural: str, before: Object, after: Object) -> None:
    """Raise Refusal (422) where an object changes in what may not change."""
    errors = []
    if plural == "jobs":
        errors = [f"spec.{key}: {IMMUTABLE}" for key in FIXED_JOB_FIELDS if before["spec"].get(key) != after["spec"].get(key)]
        is_waiting = before["spec"].get("suspend") and not before.get("status", {}).get("startTime")
        if _fixed_template(before, is_waiting) != _fixed_template(after, is_waiting):
            errors.append(f"spec.template: {IMMUTABLE}")
    elif plural == "pods" and before["spec"] != after["spec"]:
        errors = ["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image` and the like"]
    if errors:
        raise _refused(plural, after, errors)


def _fixed_template(job: Object, is_waiting: bool) -> Object:
    template: Object = job["spec"]["template"]
    if not is_waiting:
        return template
    return {"spec": {key: value for key, value in template["spec"].items() if key not in SCHEDULING}}


def _refused(plural: str, one: Object, errors: list[str]) -> Refusal:
    message = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    name = one["metadata"].get("name") if isinstance(one["metadata"], Mapping) else None
    return invalid(KINDS[plural].name, str(name), message)


def _metadata(plural: str, metadata: Mapping[str, Any], where: str) -> Errors:
    name = str(metadata.get("name", ""))
    if plural == "services":
        if not DNS_1035_LABEL.fullmatch(name):
            yield f"{where}.name: Invalid value: {name!r}: a DNS-1035 label {LOWER_CASE}"
    elif not DNS_SUBDOMAIN.fullmatch(name):
        yield f"{where}.name: Invalid value: {name!r}: a lowercase RFC 1123 subdomain {LOWER_CASE} or '.'"
    yield from _labels(metadata, where)
    for owner in metadata.get("ownerReferences", []):
        if not owner["uid"]:
            yield f"{where}.ownerReferences.uid: Required value"


def _labels(metadata: Mapping[str, Any], where: str) -> Errors:
    for key, value in metadata.get("labels", {}).items():
        yield from _qualified_name(key, f"{where}.labels")
        if not LABEL_VALUE.fullmatch(value):
            yield f"{where}.labels: Invalid value: {value!r}: a valid label must be at most 63 characters, alphanumeric at the ends"
    annotations = metadata.get("annotations", {})
    for key in annotations:
        yield from _qualified_name(key.lower(), f"{where}.annotations")
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > LONGEST_ANNOTATIONS:
        yield f"{where}.annotations: Too long: may not be more than {LONGEST_ANNOTATIONS} bytes"


def _qualified_name(key: str, where: str) -> Errors:
    prefix, slash, name = key.rpartition("/")
    if not name or not LABEL_VALUE.fullmatch(name) or (slash and not DNS_SUBDOMAIN.fullmatch(prefix)):
        yield f"{where}: Invalid value: {key!r}: a qualified name must consist of alphanumeric characters, '-', '_' or '.'"


def _job(job: Object) -> Errors:
    spec, name = job["spec"], str(job["metadata"].get("name"))
    _refuse_unserved(spec, UNSERVED_JOB, "a Job's")
    for key in ("parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished"):
        if spec.get(key, 0) < 0:
            yield f"spec.{key}: Invalid value: {spec[key]}: must be greater than or equal to 0"
    if spec.get("activeDeadlineSeconds", 1) < 1:
        yield "spec.activeDeadlineSeconds: Invalid value: must be greater than 0"
    if len(name) > 63:
        yield f"spec.template.labels: Invalid value: {name!r}: must be no more than 63 characters"
    if spec["completionMode"] == "Indexed":
        if "completions" not in spec:
            yield "spec.completions: Required value: when completion mode is Indexed"
        elif not DNS_LABEL.fullmatch(hostname := f"{name}-{max(spec['completions'] - 1, 0)}"):
            yield f"metadata.name: Invalid value: {name!r}: will not able to create pod with invalid DNS label: {hostname}"
    yield from _failure_policy(spec)
    yield from _labels(spec["template"].get("metadata", {}), "spec.template")
    yield from _pod_spec(spec["template"]["spec"], "spec.template.spec", in_job=True)


def _failure_policy(spec: Mapping[str, Any]) -> Errors:
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    if spec["podReplacementPolicy"] != "Failed":
        yield f'spec.podReplacementPolicy: Unsupported value: "{spec["podReplacementPolicy"]}": supported values: "Failed"'
    if spec["template"]["spec"].get("restartPolicy") != "Never":
        yield 'spec.template.spec.restartPolicy: Invalid value: only "Never" is supported when podFailurePolicy is specified'
    containers = {one["name"] for one in spec["template"]["spec"]["containers"]}
    for index, rule in enumerate(policy["rules"]):
        where = f"spec.podFailurePolicy.rules[{index}]"
        if rule["action"] not in ("Ignore", "FailJob", "Count"):
            yield f'{where}.action: Unsupported value: "{rule["action"]}": supported values: "Count", "FailJob", "Ignore"'
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield f"{where}: Invalid value: specifying exactly one of OnExitCodes and OnPodConditions is required"
        if codes := rule.get("onExitCodes"):
            yield from _exit_codes(codes, f"{where}.onExitCodes", containers)
        for pattern in rule.get("onPodConditions", []):
            if pattern.get("status") not in ("True", "False", "Unknown"):
                yield f"{where}.onPodConditions.status: Required value"


def _exit_codes(codes: Mapping[str, Any], where: str, containers: set[str]) -> Errors:
    values = codes["values"]
    if codes.get("containerName", next(iter(containers))) not in containers:
        yield f"{where}.containerName: Invalid value: must be one of the container names in the pod template"
    if codes["operator"] not in ("In", "NotIn"):
        yield f'{where}.operator: Unsupported value: "{codes["operator"]}"'
    if not values or values != sorted(set(values)):
        yield f"{where}.values: Invalid value: {values}: must be ordered and unique"
    if codes["operator"] == "In" and 0 in values:
        yield f"{where}.values: Invalid value: 0: must not be 0 for the In operator"


def _pod(pod: Object) -> Errors:
    yield from _pod_spec(pod["spec"], "spec", in_job=False)


def _pod_spec(spec: Mapping[str, Any], where: str, *, in_job: bool) -> Errors:
    restart = spec["restartPolicy"]
    if in_job and restart not in ("OnFailure", "Never"):
        yield f'{where}.restartPolicy: Unsupported value: "{restart}": supported values: "OnFailure", "Never"'
    elif restart != "Never":
        raise Refusal(501, f"this server has no restartPolicy {restart}, only Never")
    _refuse_unserved(spec, UNSERVED_POD, "a pod's")
    for key in ("hostname", "subdomain"):
        if key in spec and not DNS_LABEL.fullmatch(spec[key]):
            yield f"{where}.{key}: Invalid value: {spec[key]!r}: a lowercase RFC 1123 label {LOWER_CASE}"
    yield from _unique([one["name"] for one in spec["containers"]], f"{where}.containers")
    volumes = [one["name"] for one in spec.get("volumes", [])]
    yield from _unique(volumes, f"{where}.volumes")
    for volume in spec.get("volumes", []):
        sources = volume.keys() - {"name"}
        if len(sources) != 1:
            yield f"{where}.volumes[{volume['name']}]: Required value: must specify exactly one volume type"
        elif not sources <= SERVED_VOLUMES:
            raise Refusal(
                501, f"this server has no volumes of type {', '.join(sources)}, only {', '.join(sorted(SERVED_VOLUMES))}"
            )
    if not spec["containers"]:
        yield f"{where}.containers: Required value"
    for index, container in enumerate(spec["containers"]):
        yield from _container(container, f"{where}.containers[{index}]", set(volumes))


def _container(container: Mapping[str, Any], where: str, volumes: set[str]) -> Errors:
    _refuse_unserved(container, UNSERVED_CONTAINER, "a container's")
    if not container.get("image"):
        yield f"{where}.image: Required value"
    if not container.get("command"):
        raise Refusal(501, "this server knows no images, hence no container without a command")
    for variable in container.get("env", []):
        if not VARIABLE.fullmatch(variable["name"]):
            yield f"{where}.env.name: Invalid value: {variable['name']!r}: not a valid environment variable name"
        yield from _value_from(variable, where)
    for source in container.get("envFrom", []):
        if "secretRef" not in source:
            raise Refusal(501, "this server has no envFrom but secretRef")
    paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
    yield from _unique(paths, f"{where}.volumeMounts")
    for mount in container.get("volumeMounts", []):
        if mount["name"] not in volumes:
            yield f"{where}.volumeMounts: Not found: {mount['name']!r}"
    yield from _resources(container.get("resources", {}), f"{where}.resources")


def _value_from(variable: Mapping[str, Any], where: str) -> Errors:
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        yield f"{where}.env.valueFrom: Invalid value: may not be specified when `value` is not empty"
    if not source.keys() <= {"fieldRef", "secretKeyRef"}:
        raise Refusal(501, f"this server has no valueFrom {', '.join(source)}")
    path = source.get("fieldRef", {}).get("fieldPath")
    if path is not None and not SERVED_FIELDS.fullmatch(path):
        yield f"{where}.env.valueFrom.fieldRef.fieldPath: Invalid value: {path!r}: error converting fieldPath"


def _resources(resources: Mapping[str, Any], where: str) -> Errors:
    amounts: dict[str, dict[str, Any]] = {"limits": {}, "requests": {}}
    for part, parsed in amounts.items():
        for name, quantity in resources.get(part, {}).items():
            yield from _qualified_name(name, f"{where}.{part}")
            try:
                parsed[name] = parse_quantity(quantity)
            except ValueError:
                yield f"{where}.{part}[{name}]: Invalid value: {quantity!r}: quantities must match the regular expression"
    limits, requests = amounts.values()
    for name in limits.keys() | requests.keys():
        is_extended = "/" in name
        if is_extended and limits.get(name) != requests.get(name, limits.get(name)):
            yield f"{where}.requests[{name}]: Invalid value: must be equal to {name} limit"
        elif requests.get(name, 0) > limits.get(name, requests.get(name, 0)):
            yield f"{where}.requests[{name}]: Invalid value: must be less than or equal to {name} limit"


def _service(service: Object) -> Errors:
    spec = service["spec"]
    if spec.get("clusterIP") != "None":
        raise Refusal(501, "this server has no Services but headless ones (clusterIP: None)")
    ports = spec.get("ports", [])
    if len(ports) > 1 and any("name" not in port for port in ports):
        yield "spec.ports.name: Required value"
    for port in ports:
        if not DNS_LABEL.fullmatch(port.get("name", "port")):
            yield f"spec.ports.name: Invalid value: {port['name']!r}"
        if not 0 < port["port"] < 65536:
            yield f"spec.ports.port: Invalid value: {port['port']}: must be between 1 and 65535, inclusive"


def _unique(names: list[str], where: str) -> Errors:
    for name in {one for one in names if names.count(one) > 1}:
        yield f"{where}: Duplicate value: {name!r}"
    if not where.endswith("volumeMounts"):
        for name in names:
            if not DNS_LABEL.fullmatch(name):
                yield f"{where}.name: Invalid value: {name!r}: a lowercase RFC 1123 label {LOWER_CASE}"


def _refuse_unserved(spec: Mapping[str, Any], fields: tuple[str, ...], whose: str) -> None:
    if asked := [key for key in fields if spec.get(key)]:
        raise Refusal(501, f"this server does not act upon {whose} {', '.join(asked)}")
