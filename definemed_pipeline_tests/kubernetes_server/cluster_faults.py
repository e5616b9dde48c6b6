"""What can happen to a cluster, as methods named after what happens."""

from definemed_pipeline_tests.kubernetes_server.cluster import Cluster
from definemed_pipeline_tests.kubernetes_server.conditions import mark_disrupted, set_condition
from definemed_pipeline_tests.kubernetes_server.deletion import delete
from definemed_pipeline_tests.kubernetes_server.store import Object

GPUS = "requests.nvidia.com/gpu"
QUOTA = f"exceeded quota: gpus, requested: {GPUS}=1, used: {GPUS}=8, limited: {GPUS}=8"
SHORTAGE = "1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."


class FaultyCluster(Cluster):
    """A cluster to which things happen. Pods and Jobs go by name, in the cluster's namespace."""

    def cannot_pull_image(self) -> None:
        """Let containers wait for their image (ErrImagePull, ImagePullBackOff by turns): a wrong tag, no access to the registry.

        An image's name that is none (InvalidImageName) needs no method: name one.
        """
        self.kubelet.registry.is_missing = True

    def can_pull_image(self) -> None:
        """Let images be there again."""
        self.kubelet.registry.is_missing = False

    def pull_slowly(self) -> None:
        """Hold pods at ContainerCreating, as a large image does that the node has not got yet, until `finish_pulling`."""
        self.kubelet.registry.is_slow = True

    def finish_pulling(self) -> None:
        """Let pods start that wait for a large image."""
        self.kubelet.registry.is_slow = False

    def unschedulable(self, shortage: str = SHORTAGE) -> None:
        """Let pods that have no node get none: all GPUs are taken, or nothing matches the node selector."""
        self.scheduler.shortage = shortage
        self.store.ring()

    def schedulable(self) -> None:
        """Let there be room again."""
        self.scheduler.shortage = None
        self.store.ring()

    def forbid_pods(self, objection: str = QUOTA) -> None:
        """Let no pod be created: a quota is used up, the service account is missing, a policy of the cluster objects."""
        self.job_controller.objection = objection
        self.store.ring()

    def allow_pods(self) -> None:
        """Let pods be created again."""
        self.job_controller.objection = None
        self.store.ring()

    def admit(self, job: str) -> None:
        """Let Kueue admit a Job from its queue: it is unsuspended."""
        self._suspend(job, False, "Started", "Admitted by clusterQueue tests")

    def requeue(self, job: str) -> None:
        """Let Kueue take a running Job back into its queue: it is suspended again, and its pods are deleted."""
        self._suspend(job, True, "Stopped", "Preempted to accommodate a higher priority Workload")

    def evict(self, pod: str, *, container_statuses: bool = True) -> None:
        """Evict a pod through the Eviction API, as a drain or an autoscaler does; before its start too (see `pull_slowly`).

        Without `container_statuses` nobody reports how its containers ended, as when a node is drained and gone in one go.
        """
        self._disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting", container_statuses=container_statuses)

    def preempt(self, pod: str) -> None:
        """Let the scheduler end a pod to make room for one of a higher priority."""
        self._disrupt(pod, "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")

    def lose_node(self, pod: str) -> None:
        """Let a pod's node fall silent, for longer than is tolerated: the pod is deleted, but nobody there hears it.

        It stays Terminating, its process works on, and its log is out of reach, until `node_returns` or `node_gone`.
        """
        with self.store.changed:
            self.kubelet.worker(self.pod(pod)).is_silent = True
            self.store.update("pods", self.pod(pod), lambda after: set_condition(after, "Ready", "False", self.clock.stamp()))
            self._disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")

    def node_returns(self, pod: str) -> None:
        """Let a lost node speak again: it hears that the pod is deleted, and ends it."""
        worker = self.kubelet.worker(self.pod(pod))
        worker.is_silent = False
        worker.tell()
        self.store.ring()

    def node_gone(self, pod: str) -> None:
        """Let a lost node be removed from the cluster, its machine with it: PodGC declares the pod failed and deletes it."""
        with self.store.changed:
            lost = self.pod(pod)
            self.kubelet.worker(lost).kill()
            self.pod_garbage_collector.fail_and_delete(lost, is_node_gone=True)

    def delete_pod(self, name: str, *, grace: int | None = None) -> None:
        """Delete a pod, as `kubectl delete pod` does; with `grace=0` by force."""
        delete(self.store, "pods", self.pod(name), grace=grace)

    def delete_job(self, name: str, *, policy: str = "Background") -> None:
        """Delete a Job, as `kubectl delete job` does."""
        delete(self.store, "jobs", self.job(name), policy=policy)

    def out_of_memory(self, pod: str) -> None:
        """Let the kernel kill a pod's processes since they passed the memory limit (OOMKilled, 137)."""
        self.kubelet.worker(self.pod(pod)).kill(out_of_memory=True)

    def skew_clock(self, seconds: float) -> None:
        """Set the cluster's clock ahead, or behind. Deadlines and times to live go by it, so this also lets hours pass."""
        self.clock.ahead += seconds
        self.store.ring()

    def _disrupt(self, name: str, reason: str, message: str, *, container_statuses: bool = True) -> None:
        with self.store.changed:
            pod = self.pod(name)
            if not container_statuses:
                self.kubelet.worker(pod).hides_containers = True
            marked = self.store.update("pods", pod, lambda after: mark_disrupted(after, self.clock.stamp(), reason, message))
            if marked is not None:
                delete(self.store, "pods", marked)

    def _suspend(self, name: str, suspend: bool, reason: str, message: str) -> None:
        def change(after: Object) -> None:
            after["spec"]["suspend"] = suspend

        job = self.job(name)
        self.store.update("jobs", job, change)
        self.recorder.tell("jobs", job, reason, message, source="batch/job-kueue-controller")
