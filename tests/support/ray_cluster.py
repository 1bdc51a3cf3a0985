"""A real Ray cluster of two nodes on this machine, each with one core to give away."""

import contextlib
import importlib
import os
import shutil
import tempfile

from running import descendants, read

from cutstream.extras import import_ray

START_SECONDS = 240
# The least that Ray accepts; tables of names are all that goes through it.
STORE_BYTES = 80 << 20
NODE = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}


@contextlib.contextmanager
def two_nodes():
    """The cluster and its second node; the first one has the head."""
    import_ray()
    cluster_utils = importlib.import_module("ray.cluster_utils")
    # Its sockets' paths must be short.
    folder = tempfile.mkdtemp(prefix="ray")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "temp_dir": folder})
    try:
        second = cluster.add_node(wait=False, **NODE)
        cluster.wait_for_nodes(START_SECONDS)
        yield cluster, second
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def workers():
    """Process ids of the workers that run."""
    return [pid for pid in descendants(os.getpid()) if read(f"/proc/{pid}/cmdline").startswith("ray::MapWorker")]
