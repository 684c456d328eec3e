"""Rank tables of Ascend servers, in both formats HCCL has had.

The newer format lists servers, the older one instances of a group::

    {"version": "1.0", "server_list": [{"server_id": "10.0.0.1", "device": [{"device_id": "0", "rank_id": "0"}]}]}
    {"group_list": [{"instance_list": [{"server_id": "10.0.0.1", "rank_id": "0", "devices": [{"device_id": "0"}]}]}]}

Source: HCCL user guide, "ranktable file configuration", templates 1 and 2.
"""
from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REMEDY = "generate it with hccl_tools.py, or start with --workers instead"


@dataclass(frozen=True)
class Server:
    """One machine.

    Attributes:
        address: its ``server_id``, by custom its IP address.
        devices: ids of its devices in the order of their ranks.
    """

    address: str
    devices: tuple[int, ...]


@dataclass(frozen=True)
class RankTable:
    """The machines of a job in the order of their ranks."""

    servers: tuple[Server, ...]

    @property
    def ranks(self) -> int:
        """Devices of all machines."""
        return sum(len(server.devices) for server in self.servers)

    def node_of(self, addresses: Iterable[str]) -> int:
        """Which machine this is, by its own ``addresses``; 0 where there is only one.

        Raises:
            ValueError: it is none of them.
        """
        own = set(addresses)
        found = [i for i, server in enumerate(self.servers) if server.address in own]
        if len(self.servers) == 1:
            return 0
        if len(found) != 1:
            listed = ", ".join(server.address for server in self.servers)
            raise ValueError(f"server_id={listed}; must hold one address of this machine ({', '.join(sorted(own))}); "
                             "set SERVER_ID to the one that is meant")
        return found[0]


def read_rank_table(path: str | Path) -> RankTable:
    """The rank table in ``path``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a rank table, or not one msrun can start; the message says why.
    """
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8"))
        devices = sorted(_devices(contents))  # (rank, server, device)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); {REMEDY}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: is no rank table, {_reason(error)}; {REMEDY}") from None
    ranks = [rank for rank, _, _ in devices]
    if not ranks or ranks != list(range(len(ranks))):
        raise ValueError(f"{path}: rank_id={ranks}; must be every number from 0 on, once; {REMEDY}")
    servers: dict[str, list[int]] = {}
    order = []
    for _, server, device in devices:
        if not order or order[-1] != server:
            order.append(server)
        servers.setdefault(server, []).append(device)
    if len(order) != len(servers):
        raise ValueError(f"{path}: the ranks of {order[-1]} do not follow one another; must be numbered server by "
                         f"server; {REMEDY}")
    counts = {server: len(ids) for server, ids in servers.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{path}: devices of the servers {counts}; must be equally many; {REMEDY}")
    return RankTable(tuple(Server(name, tuple(ids)) for name, ids in servers.items()))


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _devices(contents: Any) -> list[tuple[int, str, int]]:
    """``(rank, server, device)`` of every device."""
    if not isinstance(contents, dict):
        raise TypeError("it holds no object")
    if "server_list" in contents:
        return [(int(device["rank_id"]), str(server["server_id"]), int(device["device_id"]))
                for server in contents["server_list"] for device in server["device"]]
    if "group_list" in contents:
        return [(int(instance["rank_id"]), str(instance["server_id"]), int(device["device_id"]))
                for group in contents["group_list"] for instance in group["instance_list"]
                for device in instance["devices"]]
    raise KeyError("server_list")


def own_addresses() -> list[str]:
    """IPv4 addresses and name of this machine."""
    name = socket.gethostname()
    try:
        found = socket.gethostbyname_ex(name)[2]
    except OSError:
        found = []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells the address that faces the network
            found.append(probe.getsockname()[0])
    except OSError:
        pass
    return [name, *dict.fromkeys(found)]
