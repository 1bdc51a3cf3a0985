"""Tables of what numbers of nodes do: `python -m benchmarks.capacity.plan`, for docs/capacity.md.

Simulated are single nodes, and pools as far as their client can keep them busy; thousands of nodes are multiples of
these, held beside what else is limited. Each figure says whether it was measured here or is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmarks.capacity.simulation import WINDOW, Image, Machine, Outcome, Plan, Simulation, Time, bursts, poisson
from rich.console import Console
from rich.table import Table

# Measured, docs/performance.md: seconds of a core for a 2048 x 1536 JPEG to a 518 x 518 PNG, PROFILE_BALANCED.
SERVER: Final = 0.100
# Measured, out/bench/capacity.json: seconds of the event loop an image, and of a client that reads and writes files.
LOOP: Final = 0.006
CLIENT: Final = 0.0046
# Measured with one photo after another; photos differ, and so do the sizes of the closer look.
SERVER_VARIATION: Final = 0.4
NETWORK_VARIATION: Final = 0.1
# Two passes of the network, the second at 0.75 of the side.
PASSES: Final = 1 + 0.75**2
# Measured: 0.79 s on two cores, bfloat16.
CPU_PASS: Final = 1.58
IMAGES: Final = 1500
SLICE_SECONDS: Final = 0.02
HOUR: Final = 3600
# Of the most that a node does: where queues are still short.
LOAD: Final = 0.7


@dataclass(frozen=True)
class Node:
    """A kind of node.

    Attributes:
        pass_seconds: of the network: of one core, or of the GPU.
        dollars: an hour; assumed, of the order of what clouds ask.
        basis: of the network's time.
    """

    name: str
    cores: int
    pass_seconds: float
    gpus: int
    dollars: float
    basis: str

    @property
    def image(self) -> Image:
        """What an image takes."""
        return Image(
            client=Time(CLIENT),
            loop=Time(LOOP),
            work=Time(SERVER - LOOP, SERVER_VARIATION),
            network=Time(PASSES * self.pass_seconds, NETWORK_VARIATION),
            # OpenVINO computes one image on all cores, Triton's instance on one GPU.
            spread=1 if self.gpus else self.cores,
        )

    def plan(self, servers: int, tritons: int) -> Plan:
        """Servers and Tritons on nodes of this kind: a Triton beside each server, or GPUs apart from them."""
        machines = (Machine(self.cores),) * servers
        if not self.gpus:
            return Plan(machines, tuple(range(servers)), tuple(range(servers)))
        pool = (Machine(self.gpus),) * tritons
        # Two at once: one computes while the other's pixels are copied.
        return Plan(machines + pool, tuple(range(servers)), tuple(range(servers, servers + tritons)), instances=2)


NODES: Final = (
    Node("2 cores (this machine)", 2, CPU_PASS, 0, 0.08, "measured"),
    Node("16 cores", 16, CPU_PASS, 0, 0.70, "assumed: cores add up"),
    Node("8 cores, 1 small GPU", 8, 0.010, 1, 0.85, "assumed: 319 GFLOP at 32 TFLOP/s"),
    Node("16 cores, 1 large GPU", 16, 0.0016, 1, 4.00, "assumed: 319 GFLOP at 200 TFLOP/s"),
)


def main() -> None:
    """Print all tables."""
    console = Console(width=150)
    most = {node.name: simulation(node).run(IMAGES).throughput for node in NODES}
    console.print(kinds(most))
    console.print(arrivals(most))
    console.print(pools(NODES[2]))


def simulation(node: Node, servers: int = 1, tritons: int = 1) -> Simulation:
    """Of nodes of one kind."""
    return Simulation(node.plan(servers, tritons), node.image, slice_seconds=SLICE_SECONDS)


def kinds(most: dict[str, float]) -> Table:
    """Throughput and cost of one node of each kind, and what is busy first."""
    table = Table(title="One node, PROFILE_BALANCED")
    for heading in ("node", "network's time", "images/s", "$ for a million", "busy first", "1,000 nodes: images/s"):
        table.add_column(heading, justify="left" if heading in {"node", "network's time", "busy first"} else "right")
    for node in NODES:
        rate = most[node.name]
        limits = {
            "cores": node.cores / (SERVER + (0 if node.gpus else PASSES * node.pass_seconds)),
            "GPU": node.gpus / (PASSES * node.pass_seconds) if node.gpus else float("inf"),
            "event loop": 1 / LOOP,
            "window": WINDOW / (SERVER + PASSES * node.pass_seconds / node.image.spread),
        }
        table.add_row(
            node.name,
            node.basis,
            f"{rate:.2f}" if rate < 10 else f"{rate:.0f}",
            f"{node.dollars / HOUR / rate * 1e6:.0f}",
            min(limits, key=lambda name: limits[name]),
            f"{1000 * rate:.0f}",
        )
    return table


def arrivals(most: dict[str, float]) -> Table:
    """What requests wait when they come as they like."""
    table = Table(title=f"One node at {LOAD:.0%} of its most: p95 seconds, images in the system")
    for heading in ("node", "images/s", "Poisson", "bursts of 20"):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    for node in NODES:
        rate = LOAD * most[node.name]
        cells = [shown(simulation(node).run(IMAGES, gap)) for gap in (poisson(rate), bursts(rate, 20))]
        table.add_row(node.name, f"{rate:.2f}", *cells)
    return table


def pools(node: Node) -> Table:
    """Servers and GPU Tritons in every proportion."""
    counts = (1, 2, 4)
    table = Table(
        title=f"Servers of {node.cores} cores, Tritons with one small GPU each: images/s (network's time assumed)"
    )
    table.add_column("servers", justify="right")
    for tritons in counts:
        table.add_column(f"{tritons} Tritons", justify="right")
    for servers in (1, 2, 4, 8):
        outcomes = [simulation(node, servers, tritons).run(IMAGES) for tritons in counts]
        table.add_row(str(servers), *(f"{outcome.throughput:.0f}" for outcome in outcomes))
    return table


def shown(outcome: Outcome) -> str:
    """Both numbers."""
    return f"{outcome.p95:.2f} s, {outcome.mean_in_system:.1f}"


if __name__ == "__main__":
    main()
