"""The verbs of the API on stored objects, whoever asks: the HTTP server, or a test by the server's own methods."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definemed_pipeline_tests.kubernetes_server.admission import admit
from definemed_pipeline_tests.kubernetes_server.deletion import delete
from definemed_pipeline_tests.kubernetes_server.job_status import is_leaving
from definemed_pipeline_tests.kubernetes_server.patches import patched
from definemed_pipeline_tests.kubernetes_server.refusals import Refusal, qualified
from definemed_pipeline_tests.kubernetes_server.selection import Matcher
from definemed_pipeline_tests.kubernetes_server.store import KINDS, Object, Store
from definemed_pipeline_tests.kubernetes_server.validation import validate, validate_schema, validate_update

# Where nobody says what is to become of the pods: batch/v1 leaves a Job's behind, for compatibility's sake.
DEFAULT_POLICY = {"jobs": "Orphan"}
FIXED_METADATA = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


@dataclass
class Api:
    """Create, read, patch and delete objects. Raise Refusal where the API would refuse."""

    store: Store
    namespaces: set[str]

    def create(self, plural: str, namespace: str, body: Object) -> Object:
        kind = KINDS[plural]
        if namespace not in self.namespaces:
            raise Refusal(404, f'namespaces "{namespace}" not found')
        if (body.get("apiVersion", kind.api_version), body.get("kind", kind.name)) != (kind.api_version, kind.name):
            raise Refusal(400, f"the object provided is no {kind.api_version} {kind.name}")
        made = {"metadata": {}, **copy.deepcopy(body), "apiVersion": kind.api_version, "kind": kind.name}
        validate_schema(plural, made)
        if made["metadata"].setdefault("namespace", namespace) != namespace:
            raise Refusal(400, "the namespace of the provided object does not match the namespace sent on the request")
        made = admit(plural, made)
        validate(plural, made)
        return self.store.add(plural, made)

    def list(self, plural: str, namespace: str | None, is_selected: Matcher) -> Object:
        kind = KINDS[plural]
        with self.store.changed:
            items, version = self.store.all(plural, namespace), self.store.version
        return {
            "kind": f"{kind.name}List",
            "apiVersion": kind.api_version,
            "metadata": {"resourceVersion": str(version)},
            "items": [
                {key: value for key, value in one.items() if key not in ("kind", "apiVersion")}
                for one in items
                if is_selected(one)
            ],
        }

    def patch(self, plural: str, namespace: str, name: str, patch: Any, content_type: str, *, part: str = "") -> Object | None:
        """Patch an object, or its status alone (`part`). Return None where that lets an object go that was being deleted."""
        with self.store.changed:
            before = self.store.get(plural, namespace, name)
            after = patched(content_type, before, patch)
            self._check_version(plural, before, after)
            after["metadata"] = {
                **after["metadata"],
                **{key: before["metadata"][key] for key in FIXED_METADATA if key in before["metadata"]},
            }
            kept = ("spec", "metadata") if part == "status" else ("status",)
            after.update({key: before[key] for key in kept if key in before})
            after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            validate_schema(plural, after)
            validate(plural, after)
            validate_update(plural, before, after)

            def replace(one: Object) -> None:
                one.clear()
                one.update(copy.deepcopy(after))

            return self.store.update(plural, before, replace)

    def delete(self, plural: str, namespace: str, name: str, options: Mapping[str, Any]) -> Object:
        """Delete an object; return it as it is on its way out, or a Status where it is gone."""
        with self.store.changed:
            one = self.store.get(plural, namespace, name)
            wanted = options.get("preconditions", {})
            for key in ("uid", "resourceVersion"):
                if wanted.get(key, one["metadata"][key]) != one["metadata"][key]:
                    raise self._conflict(plural, name, f"Precondition failed: {key} in precondition: {wanted[key]}")
            policy = options.get("propagationPolicy") or (None if is_leaving(one) else DEFAULT_POLICY.get(plural))
            if policy not in (None, "Background", "Foreground", "Orphan"):
                raise Refusal(422, f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "{policy}"')
            left = delete(self.store, plural, one, policy=policy, grace=options.get("gracePeriodSeconds"))
        details = {"name": name, "group": "batch" if plural == "jobs" else "", "kind": plural, "uid": one["metadata"]["uid"]}
        return left or {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def delete_all(self, plural: str, namespace: str, is_selected: Matcher, options: Mapping[str, Any]) -> Object:
        for one in filter(is_selected, self.store.all(plural, namespace)):
            self.delete(plural, namespace, one["metadata"]["name"], options)
        return self.list(plural, namespace, is_selected)

    def _check_version(self, plural: str, before: Object, after: Object) -> None:
        """Refuse a change of an object that has changed since the one who asks has read it."""
        if after["metadata"].get("resourceVersion", "") not in ("", before["metadata"]["resourceVersion"]):
            raise self._conflict(
                plural,
                before["metadata"]["name"],
                "the object has been modified; please apply your changes to the latest version and try again",
            )

    @staticmethod
    def _conflict(plural: str, name: str, why: str) -> Refusal:
        return Refusal(409, f'Operation cannot be fulfilled on {qualified(plural)} "{name}": {why}')
