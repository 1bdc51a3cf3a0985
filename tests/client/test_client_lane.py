"""Several streams of one call: which servers they go to, and who gets the next image."""

from __future__ import annotations

import asyncio
import socket
import time

import grpc
import pytest

from cutstream import Client, Cutout, LoadBalancingConfig, session
from cutstream.pool import find_servers


@pytest.fixture
def servers(server):
    """Three servers of one kind; the first is the shared one."""
    others = [type(server)() for _ in range(2)]
    for other in others:
        other.start()
    yield [server, *others]
    for other in others:
        other.shut_down()


def pool(servers, **arguments):
    return Client(",".join(server.target for server in servers), **arguments)


def images(count):
    return [(str(number), b"image %d" % number) for number in range(count)]


def until(condition):
    """An endless stream of images that ends when the condition comes true, or after 10 seconds."""
    end = time.monotonic() + 10
    number = 0
    while not condition() and time.monotonic() < end:
        yield str(number), b"x"
        number += 1


def test_every_server_of_a_list_has_one_stream(servers):
    with pool(servers) as client:
        results = list(client.stream(until(lambda: all(len(server.received) > 20 for server in servers))))
    assert sorted(int(result.image_id) for result in results) == list(range(len(results)))
    assert [len(server.stream_configs) for server in servers] == [1, 1, 1]


def test_with_one_stream_one_server_works_at_a_time(servers):
    with pool(servers) as client:
        list(client.stream(images(10), streams=1))
    assert sorted(len(server.received) for server in servers) == [0, 0, 10]


def test_pick_first_has_one_stream(servers):
    with pool(servers, load_balancing=LoadBalancingConfig("pick_first")) as client:
        list(client.stream(images(30)))
    assert sorted(len(server.stream_configs) for server in servers) == [0, 0, 1]


def test_a_single_server_takes_as_many_streams_as_are_asked_for(server, client):
    list(client.stream(images(60), streams=3))
    assert len(server.stream_configs) == 3


def test_no_more_streams_are_opened_than_the_window_has_images(servers):
    with pool(servers) as client:
        list(client.stream(images(10), window=2))
    assert sum(len(server.stream_configs) for server in servers) == 2


def test_no_streams_at_all_are_refused(client):
    with pytest.raises(ValueError, match="streams must be at least 1"):
        client.stream(images(1), streams=0)


def test_the_window_is_eight_images_for_each_stream(servers):
    async def when_all_are_there(image):
        while sum(len(server.received) for server in servers) < 24:
            await asyncio.sleep(0.005)
        return servers[0].success(image)

    for server in servers:
        server.script = when_all_are_there
    with pool(servers) as client:
        assert len(list(client.stream(images(24)))) == 24
    assert [server.max_unanswered for server in servers] == [8, 8, 8]


def test_a_server_that_answers_no_more_gets_no_more_than_its_share(servers):
    stalled, window = servers[1], 12
    silent_from = []

    async def never(image):
        await asyncio.Event().wait()

    def stalling():
        for image in until(lambda: silent_from and len(servers[0].received) > silent_from[1] + 300):
            if not silent_from and all(len(server.received) > 20 for server in servers):
                stalled.script = never
                silent_from.extend((len(stalled.received), len(servers[0].received)))
            yield image

    with pool(servers) as client:
        results = list(client.stream(stalling(), window=window, image_timeout_seconds=3))
    lost = [result for result in results if not isinstance(result, Cutout)]
    assert 1 <= len(lost) <= window / 3 + 1
    assert len(stalled.received) - silent_from[0] <= window / 3 + 1


def test_the_images_of_a_killed_server_go_to_the_others_and_it_gets_images_again_when_it_is_back(servers, fast_retry):
    victim = servers[2]
    came_back = []

    def disturbed():
        for number, image in enumerate(until(lambda: came_back and len(victim.received) > came_back[0] + 5)):
            time.sleep(0.002)
            if number == 50:
                victim.kill()
            if number == 100:
                victim.start()
                came_back.append(len(victim.received))
            yield image

    with pool(servers, retry=fast_retry) as client:
        results = list(client.stream(disturbed()))
    assert all(isinstance(result, Cutout) for result in results)
    assert sorted(int(result.image_id) for result in results) == list(range(len(results)))
    assert len(victim.received) > came_back[0] + 5


def test_a_server_that_breaks_every_stream_costs_no_image(servers, fast_retry):
    servers[0].refusal = servers[0].status(None, grpc.StatusCode.UNAVAILABLE)
    with pool(servers, retry=fast_retry) as client:
        results = list(client.stream(images(200)))
    assert [result.reason for result in results if not isinstance(result, Cutout)] == []


@pytest.fixture
def name(server, monkeypatch):
    """The addresses that this machine finds for any name; a change is seen soon."""
    addresses = ["127.0.0.1"]
    monkeypatch.setattr(session, "LOOK_UP_SECONDS", 0.05)

    def look_up(host, port, family=0, kind=0, *_):
        assert (host, port) == ("pool.test", str(server.port))
        return [(family, kind, 6, "", (address, server.port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return addresses


@pytest.fixture
def second(server):
    """Another server on the same port of another address."""
    added = type(server)(host="127.0.0.2", port=server.port)
    added.start()
    yield added
    added.shut_down()


def test_a_server_that_is_added_to_a_name_gets_images(server, second, name):
    def growing():
        for number, image in enumerate(until(lambda: len(second.received) > 5)):
            if number == 20:
                assert not second.received
                name.append("127.0.0.2")
            yield image

    with Client(f"dns:///pool.test:{server.port}") as client:
        results = list(client.stream(growing()))
    assert len(second.received) > 5
    assert all(isinstance(result, Cutout) for result in results)


def test_a_name_server_that_fails_for_a_moment_takes_no_server_away(server, second, name, monkeypatch):
    name.append("127.0.0.2")
    failures = []

    def fail(*_):
        failures.append(1)
        raise OSError

    def unnamed():
        for image in until(lambda: len(failures) > 3):
            if len(second.received) > 10 and not failures:
                monkeypatch.setattr(socket, "getaddrinfo", fail)
            yield image

    with Client(f"dns:///pool.test:{server.port}") as client:
        results = list(client.stream(unnamed()))
    assert len(failures) > 3
    assert all(isinstance(result, Cutout) for result in results)
    assert [len(each.stream_configs) for each in (server, second)] == [1, 1]


def test_a_server_that_leaves_a_name_answers_what_it_has_and_gets_no_more(server, second, name):
    name.append("127.0.0.2")

    def shrinking():
        for image in until(lambda: second.clean_streams):
            if len(second.received) > 20 and len(name) > 1:
                name.remove("127.0.0.2")
            yield image

    with Client(f"dns:///pool.test:{server.port}") as client:
        results = list(client.stream(shrinking()))
    assert (second.clean_streams, second.cancelled_streams) == (1, 0)
    assert all(isinstance(result, Cutout) for result in results)


def test_fewer_streams_than_servers_still_have_all_servers_to_fall_back_on(servers, fast_retry):
    def disturbed():
        for number, image in enumerate(until(lambda: False)):
            if number == 20:
                next(server for server in servers if server.received).kill()
            if number == 60:
                return
            yield image

    with pool(servers, retry=fast_retry) as client:
        results = list(client.stream(disturbed(), streams=1))
    assert [type(result) for result in results] == [Cutout] * 60


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("localhost:50051", []),
        ("unix:/run/cutstream", []),
        ("ipv4:127.0.0.3:1,127.0.0.2:1", ["127.0.0.2:1", "127.0.0.3:1"]),
        ("dns:///localhost:50051", ["127.0.0.1:50051"]),
        ("dns:localhost:50051", ["127.0.0.1:50051"]),
        ("dns:///no-such-host.invalid:50051", []),
        ("dns://127.0.0.1/localhost:50051", []),
    ],
)
def test_the_servers_of_a_target_are_found(address, found):
    assert asyncio.run(find_servers(address)) == found
