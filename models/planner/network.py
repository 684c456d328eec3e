"""The alpha-beta model of a network of devices: pure functions from bytes to seconds.

A message of n bytes over a link costs ``alpha + n / beta``. Collectives run on rings (Thakur, Rabenseifner & Gropp
2005): an all-reduce of n bytes over R ranks takes ``2 (R - 1)`` messages of ``n / R`` bytes, an all-gather whose result
has n bytes, or a reduce-scatter of n bytes, ``R - 1`` of them. Over several nodes the all-reduce is hierarchical: a
reduce-scatter inside each node, an all-reduce of each share between the nodes, an all-gather inside; all devices of a
node send to the next node at once, each over a link of its own. What does not fill a node is counted as one that does.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """What connects two devices.

    Args:
        latency: alpha, seconds a message costs whatever its size.
        bandwidth: beta, bytes a second that a device sends.
    """

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Cluster:
    """Nodes of devices.

    Args:
        devices_per_node: devices that the intra-node link connects.
        intra_node, inter_node: the links inside a node and between nodes.
    """

    devices_per_node: int
    intra_node: Link
    inter_node: Link

    def shape(self, ranks: int) -> tuple[int, int]:
        """Devices used in a node, and nodes."""
        return min(ranks, self.devices_per_node), -(-ranks // self.devices_per_node)

    def all_reduce(self, size: float, ranks: int) -> float:
        """Seconds to sum ``size`` bytes over ``ranks``."""
        local, nodes = self.shape(ranks)
        between = 2 * _ring_pass(size / local, nodes, self.inter_node)
        return 2 * _ring_pass(size, local, self.intra_node) + between

    def all_gather(self, size: float, ranks: int) -> float:
        """Seconds until every one of ``ranks`` has all ``size`` bytes of the result."""
        local, nodes = self.shape(ranks)
        return _ring_pass(size / local, nodes, self.inter_node) + _ring_pass(size, local, self.intra_node)

    def all_reduce_bytes(self, size: float, ranks: int) -> float:
        """Bytes each device sends in an all-reduce of ``size`` bytes."""
        local, nodes = self.shape(ranks)
        return 2 * size * (local - 1) / local + 2 * size / local * (nodes - 1) / nodes

    def all_gather_bytes(self, size: float, ranks: int) -> float:
        """Bytes each device sends in an all-gather whose result has ``size`` bytes."""
        return self.all_reduce_bytes(size, ranks) / 2


def _ring_pass(size: float, ranks: int, link: Link) -> float:
    """Seconds of a reduce-scatter of ``size`` bytes on a ring, or of an all-gather to ``size`` bytes."""
    return (ranks - 1) * (link.latency + size / ranks / link.bandwidth)


@dataclass(frozen=True)
class Message:
    """One collective of a step.

    Args:
        ready: seconds after the start of the step at which it can begin.
        seconds: that it occupies the network.
    """

    ready: float
    seconds: float


def finish(messages: Iterable[Message]) -> float:
    """When the last message is through, sent one after the other in the order in which they get ready."""
    free = 0.0
    for message in sorted(messages, key=lambda message: message.ready):
        free = max(free, message.ready) + message.seconds
    return free


def exposed(messages: Iterable[Message], end: float, overlap: float) -> float:
    """Seconds by which messages lengthen a computation that takes until ``end``.

    Args:
        overlap: of the time that could pass behind the computation, the share the device does hide there; 0 sends
            after it, 1 as soon as messages are ready.
    """
    messages = list(messages)
    total = sum(message.seconds for message in messages)
    visible = min(total, max(0.0, finish(messages) - end))
    return total - overlap * (total - visible)
