"""One client and three real servers behind one list of addresses: none lost, and the load follows the servers.

CUTSTREAM_TEST_REPLICA_IMAGES sets how many images are sent at least (2000 is the acceptance).
"""

import os
import threading
import time

import numpy as np
import pytest
from benchmarks.capacity.replicas import running_replicas

from cutstream import Client, Cutout

IMAGE_COUNT = int(os.environ.get("CUTSTREAM_TEST_REPLICA_IMAGES", "500"))
# For a server to come back among the others; it starts in some 5 s.
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def replicas(tmp_path_factory):
    with running_replicas(tmp_path_factory.mktemp("replicas")) as running:
        yield running


@pytest.fixture(scope="module")
def picture(draw):
    mask = np.zeros((96, 96))
    mask[24:72, 24:72] = 1
    return draw(mask)


def connect(replicas):
    return Client(",".join(replica.target for replica in replicas))


def test_every_replica_works_for_one_client(replicas, picture):
    before = [replica.images() for replica in replicas]
    with connect(replicas) as client:
        results = list(client.stream([(str(number), picture) for number in range(200)], output_width_px=96))
    assert all(isinstance(result, Cutout) for result in results)
    shares = [replica.images() - count for replica, count in zip(replicas, before, strict=True)]
    assert sum(shares) == 200
    # Each has a window of its own; the rest goes to who is quicker.
    assert min(shares) >= 20


@pytest.mark.timeout(600)
def test_with_one_replica_killed_and_one_drained_no_image_is_lost_and_both_work_again_when_they_are_back(
    replicas, picture
):
    killed, drained, _ = replicas
    back = {}

    def bring_back(replica):
        replica.process.wait()
        replica.start()
        back[replica.host] = replica.images()

    def is_at_work(replica):
        return replica.host in back and replica.images() > back[replica.host] + 5

    def disturbed():
        end = time.monotonic() + PATIENCE_SECONDS
        number = 0
        while number < IMAGE_COUNT or not ((is_at_work(killed) and is_at_work(drained)) or time.monotonic() > end):
            if number in {IMAGE_COUNT // 4, IMAGE_COUNT // 2}:
                replica = killed if number == IMAGE_COUNT // 4 else drained
                replica.kill() if replica is killed else replica.drain()
                threading.Thread(target=bring_back, args=[replica]).start()
            yield str(number), picture
            number += 1

    with connect(replicas) as client:
        results = list(client.stream(disturbed(), output_width_px=96))
    assert sorted(int(result.image_id) for result in results) == list(range(len(results)))
    assert [result for result in results if not isinstance(result, Cutout)] == []
    assert is_at_work(killed)
    assert is_at_work(drained)
