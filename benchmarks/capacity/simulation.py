"""A small discrete-event simulation of servers, Tritons and one client: what a number of machines can do.

Every part runs on a machine, whose cores all parts that are placed there share in slices, as an operating system
shares them. An image is sent by the client to the server with the fewest unanswered images, passes the server's event
loop (one image at a time) and its workers (one for each core), goes to the Triton with the fewest calls under way, and
back through workers and loop. Times are means with a coefficient of variation, drawn from gamma distributions; they
come from measurements (benchmarks/capacity/measure.py) or are assumed, and the caller says which.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

import simpy

# As the scheduler of Linux gives them to several that want to run.
SLICE_SECONDS: Final = 0.004
# What a client sends ahead on one stream.
WINDOW: Final = 8
# Of a run: the filling and the emptying of the queues do not count.
WARM_UP_SHARE: Final = 0.1

Step = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Time:
    """Seconds of a core: the mean, and the standard deviation in means."""

    mean: float
    variation: float = 0.0

    def draw(self, source: random.Random) -> float:
        """One image's."""
        if not self.mean or not self.variation:
            return self.mean
        shape = 1 / self.variation**2
        return source.gammavariate(shape, self.mean / shape)


@dataclass(frozen=True)
class Image:
    """What an image takes at each part.

    Attributes:
        client: of the client's one thread.
        loop: of the server's event loop.
        work: of the server's workers: half before the network, half after.
        network: of Triton's cores, or of its GPU.
        spread: over how many cores the network is computed at once.
    """

    client: Time
    loop: Time
    work: Time
    network: Time
    spread: int = 1


@dataclass(frozen=True)
class Machine:
    """Cores, or GPUs, and what share of their time is to be had."""

    cores: int
    speed: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What runs where.

    Attributes:
        servers: the machine of each, by its index in `machines`.
        tritons: the same.
        client: the same; None has a machine of its own.
        instances: images that a Triton computes at once.
    """

    machines: tuple[Machine, ...]
    servers: tuple[int, ...]
    tritons: tuple[int, ...]
    client: int | None = None
    instances: int = 1


@dataclass
class Outcome:
    """What a run gave: images a second, seconds from arrival to answer, and images that are in the system."""

    throughput: float
    latencies: list[float]
    mean_in_system: float

    @property
    def p95(self) -> float:
        """The latency that one image in twenty exceeds."""
        return sorted(self.latencies)[int(0.95 * len(self.latencies))]


@dataclass
class _Place:
    """A machine at work."""

    environment: simpy.Environment
    machine: Machine
    slice_seconds: float
    cores: simpy.Resource = field(init=False)

    def __post_init__(self) -> None:
        self.cores = simpy.Resource(self.environment, self.machine.cores)

    def compute(self, seconds: float) -> Step:
        """Takes turns with all that compute here."""
        while seconds > 0:
            with self.cores.request() as turn:
                yield turn
                part = min(self.slice_seconds, seconds)
                yield self.environment.timeout(part / self.machine.speed)
                seconds -= part


@dataclass
class _Part:
    """A server or a Triton: where it runs, and how many images are there."""

    place: _Place
    gate: simpy.Resource
    workers: simpy.Resource | None = None
    present: int = 0


class Simulation:
    """One run.

    Args:
        plan: what runs where.
        image: what an image takes.
        slice_seconds: after which what computes lets others do so; longer ones are quicker to simulate.
        seed: of all random numbers.
    """

    def __init__(self, plan: Plan, image: Image, *, slice_seconds: float = SLICE_SECONDS, seed: int = 0) -> None:
        self._environment = environment = simpy.Environment()
        self._random = random.Random(seed)
        self._image = image
        places = [_Place(environment, machine, slice_seconds) for machine in plan.machines]
        own = _Place(environment, Machine(1), slice_seconds)
        self._client = _Part(own if plan.client is None else places[plan.client], simpy.Resource(environment, 1))
        self._servers = [
            _Part(
                places[index],
                simpy.Resource(environment, 1),
                simpy.Resource(environment, plan.machines[index].cores),
            )
            for index in plan.servers
        ]
        self._tritons = [_Part(places[index], simpy.Resource(environment, plan.instances)) for index in plan.tritons]
        self._window = simpy.Resource(environment, WINDOW * len(plan.servers))
        self._arrived: list[float] = []
        self._finished: list[tuple[float, float]] = []

    def run(self, images: int, gap: Callable[[random.Random], float] | None = None) -> Outcome:
        """Sends that many images.

        Args:
            images: how many.
            gap: seconds between two arrivals, drawn each time; None: as fast as the window takes them.
        """
        self._environment.process(self._arrive(images, gap))
        self._environment.run()
        finished = sorted(self._finished)[int(WARM_UP_SHARE * images) : int((1 - WARM_UP_SHARE) * images)]
        seconds = finished[-1][0] - finished[0][0]
        throughput = (len(finished) - 1) / seconds
        latencies = [latency for _, latency in finished]
        # Little's law.
        return Outcome(throughput, latencies, throughput * fmean(latencies))

    def _arrive(self, images: int, gap: Callable[[random.Random], float] | None) -> Step:
        for _ in range(images):
            if gap is not None:
                yield self._environment.timeout(gap(self._random))
            arrived = self._environment.now
            turn = self._window.request()
            if gap is None:
                yield turn
                arrived = self._environment.now
            self._environment.process(self._pass(turn, arrived))

    def _pass(self, turn: Any, arrived: float) -> Step:
        yield turn
        yield from self._at(self._client, self._image.client)
        server = min(self._servers, key=lambda server: server.present)
        server.present += 1
        yield from self._at(server, self._image.loop, 0.5)
        yield from self._work(server)
        triton = min(self._tritons, key=lambda triton: triton.present)
        triton.present += 1
        with triton.gate.request() as gate:
            yield gate
            seconds = self._image.network.draw(self._random) / self._image.spread
            parts = [self._environment.process(triton.place.compute(seconds)) for _ in range(self._image.spread)]
            yield self._environment.all_of(parts)
        triton.present -= 1
        yield from self._work(server)
        yield from self._at(server, self._image.loop, 0.5)
        server.present -= 1
        self._window.release(turn)
        self._finished.append((self._environment.now, self._environment.now - arrived))

    def _at(self, part: _Part, time: Time, share: float = 1.0) -> Step:
        with part.gate.request() as gate:
            yield gate
            yield from part.place.compute(share * time.draw(self._random))

    def _work(self, server: _Part) -> Step:
        assert server.workers is not None
        with server.workers.request() as worker:
            yield worker
            yield from server.place.compute(0.5 * self._image.work.draw(self._random))


def poisson(rate: float) -> Callable[[random.Random], float]:
    """Arrivals that know nothing of each other, `rate` a second."""
    return lambda source: source.expovariate(rate)


def bursts(rate: float, size: int) -> Callable[[random.Random], float]:
    """The same number of images in bursts of a mean size."""

    def gap(source: random.Random) -> float:
        return 0.0 if source.random() > 1 / size else source.expovariate(rate / size)

    return gap
