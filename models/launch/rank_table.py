"""Rank tables of Ascend servers, in both formats HCCL has had.

The newer format lists servers, the older one instances of a group::

    {"version": "1.0", "server_list": [{"server_id": "10.0.0.1", "device": [{"device_id": "0", "rank_id": "0"}]}]}
    {"group_list": [{"instance_list": [{"server_id": "10.0.0.1", "rank_id": "0", "devices": [{"device_id": "0"}]}]}]}

Source: HCCL user guide, "ranktable file configuration", templates 1 and 2.
"""
from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor.checks import shortened, shown

LARGEST = 2 ** 26  # bytes; a table of a hundred thousand devices takes 10 MB
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
            listed = shortened(", ".join(server.address for server in self.servers))
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
        contents = json.loads(_text(Path(path)))
        devices = sorted(_devices(contents))  # (rank, server, device)
    except RecursionError:
        raise ValueError(f"{path}: is no rank table, it is nested thousands deep; {REMEDY}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); {REMEDY}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: is no rank table, {_reason(error)}; {REMEDY}") from None
    ranks = [rank for rank, _, _ in devices]
    if not ranks or ranks != list(range(len(ranks))):
        raise ValueError(f"{path}: rank_id={shown(ranks)}; must be every number from 0 on, once; {REMEDY}")
    servers = _servers(devices, path)
    for name, ids in servers.items():
        if len(set(ids)) < len(ids):
            raise ValueError(f"{path}: device_id={shown(ids)} of {name}; must differ from one another; {REMEDY}")
    counts = {name: len(ids) for name, ids in servers.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{path}: devices of the servers {shown(counts)}; must be equally many; {REMEDY}")
    return RankTable(tuple(Server(name, tuple(ids)) for name, ids in servers.items()))


def _text(path: Path) -> str:
    """What a file of a sensible size holds."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    with open(path, "rb") as stream:
        contents = stream.read(LARGEST + 1)
    if len(contents) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB")
    return contents.decode()


def _servers(devices: list[tuple[int, str, int]], path: str | Path) -> dict[str, list[int]]:
    """The devices of every server, both in the order of their ranks."""
    servers: dict[str, list[int]] = {}
    order: list[str] = []
    for _, server, device in devices:
        if not order or order[-1] != server:
            order.append(server)
        servers.setdefault(server, []).append(device)
    if len(order) != len(servers):
        raise ValueError(f"{path}: the ranks of {order[-1]} do not follow one another; must be numbered server by "
                         f"server; {REMEDY}")
    return servers


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else shortened(str(error))


def _devices(contents: Any) -> list[tuple[int, str, int]]:
    """``(rank, server, device)`` of every device."""
    if not isinstance(contents, dict):
        raise TypeError("it holds no object")
    if "server_list" in contents:
        return [(_number(device, "rank_id"), _server(server), _number(device, "device_id"))
                for server in contents["server_list"] for device in server["device"]]
    if "group_list" in contents:
        return [(_number(instance, "rank_id"), _server(instance), _number(device, "device_id"))
                for group in contents["group_list"] for instance in group["instance_list"]
                for device in instance["devices"]]
    raise KeyError("server_list")


def _number(entry: Any, name: str) -> int:
    """A number from 0 on, which HCCL writes as text and other programs as a number."""
    value = entry[name]
    text = value if isinstance(value, str) else repr(value) if isinstance(value, int) else ""
    if not re.fullmatch("[0-9]{1,6}", text, re.ASCII):
        raise ValueError(f"{name}={shown(value)} is no number from 0 on")
    return int(text)


def _server(entry: Any) -> str:
    """The name or address of a machine."""
    value = entry["server_id"]
    if not isinstance(value, str) or not re.fullmatch(r"[\w.-]{1,255}", value):
        raise ValueError(f"server_id={shown(value)} is no name or IPv4 address of a machine")
    return value


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
