"""The simulation against queueing theory, where that has a formula."""

import pytest
from benchmarks.capacity.simulation import WINDOW, Image, Machine, Plan, Simulation, Time, bursts, poisson

NOTHING = Time(0.0)


def one_of_each(cores=1, speed=1.0, servers=1):
    return Plan((Machine(cores, speed),), (0,) * servers, (0,) * servers, client=0)


def simulate(plan, image, images, gap=None, **options):
    # Where nothing else computes on a machine, long slices give the same result sooner.
    return Simulation(plan, image, slice_seconds=0.1, **options).run(images, gap)


def network_only(mean, variation=0.0):
    return Image(client=NOTHING, loop=NOTHING, work=NOTHING, network=Time(mean, variation))


@pytest.mark.parametrize(("load", "variation"), [(0.7, 0.0), (0.3, 1.0), (0.6, 1.0)])
def test_the_mean_wait_for_one_triton_is_that_of_pollaczek_and_khinchine(load, variation):
    service = 0.1
    outcome = simulate(one_of_each(), network_only(service, variation), 10_000, poisson(load / service))
    expected = service + load * service * (1 + variation**2) / (2 * (1 - load))
    assert sum(outcome.latencies) / len(outcome.latencies) == pytest.approx(expected, rel=0.08)


def test_a_full_core_does_one_image_each_service_time():
    outcome = simulate(one_of_each(), network_only(0.02), 1000)
    assert outcome.throughput == pytest.approx(50, rel=0.01)
    # All of the window wait, and all but one for the others.
    assert outcome.p95 == pytest.approx(WINDOW * 0.02, rel=0.05)
    assert outcome.mean_in_system == pytest.approx(WINDOW, rel=0.05)


def test_images_in_the_system_are_arrivals_times_latency():
    outcome = simulate(one_of_each(), network_only(0.1), 8000, poisson(5))
    # M/D/1 at a load of one half holds 0.75.
    assert outcome.mean_in_system == pytest.approx(0.75, rel=0.05)


def test_servers_that_share_a_machine_do_what_its_cores_do():
    image = Image(client=NOTHING, loop=Time(0.001), work=Time(0.02), network=Time(0.01))
    throughputs = [simulate(one_of_each(2, servers=count), image, 600).throughput for count in (1, 2, 3)]
    assert throughputs == [pytest.approx(2 / 0.031, rel=0.05)] * 3


def test_servers_with_machines_of_their_own_add_up():
    image = Image(client=NOTHING, loop=Time(0.001), work=Time(0.02), network=Time(0.01))
    alone = simulate(one_of_each(2), image, 500).throughput
    four = Plan((Machine(2),) * 4, (0, 1, 2, 3), (0, 1, 2, 3))
    assert simulate(four, image, 1000).throughput == pytest.approx(4 * alone, rel=0.05)


def test_a_slow_machine_does_less_in_proportion():
    image = network_only(0.02)
    assert simulate(one_of_each(speed=0.5), image, 500).throughput == pytest.approx(25, rel=0.02)


def test_an_event_loop_is_the_limit_where_there_are_cores_enough():
    image = Image(client=NOTHING, loop=Time(0.01), work=Time(0.02), network=Time(0.005))
    assert simulate(one_of_each(16), image, 500).throughput == pytest.approx(100, rel=0.03)


def test_a_network_that_is_spread_over_cores_is_as_much_faster():
    image = Image(client=NOTHING, loop=NOTHING, work=NOTHING, network=Time(0.4), spread=4)
    assert simulate(one_of_each(4), image, 300).throughput == pytest.approx(10, rel=0.02)


def test_bursts_bring_as_many_images_and_let_them_wait_longer():
    image = network_only(0.01)
    even = simulate(one_of_each(), image, 8000, poisson(50))
    uneven = simulate(one_of_each(), image, 8000, bursts(50, 20))
    assert uneven.throughput == pytest.approx(even.throughput, rel=0.1)
    assert uneven.p95 > 3 * even.p95


def test_the_same_seed_gives_the_same_run():
    runs = [simulate(one_of_each(), network_only(0.1, 0.5), 300, poisson(5), seed=3).latencies for _ in range(2)]
    assert runs[0] == runs[1]
