"""Rank tables of HCCL in both formats: who is where, and what is refused."""
from __future__ import annotations

import json
import os

import pytest

from models.launch.rank_table import RankTable, Server, own_addresses, read_rank_table


def newer(*servers):
    """``(address, ((device, rank), ...))`` of each server."""
    return {"version": "1.0", "server_count": str(len(servers)), "status": "completed", "server_list": [
        {"server_id": address, "host_nic_ip": "reserve", "device": [
            {"device_id": str(device), "device_ip": f"192.168.{device}.1", "rank_id": str(rank)}
            for device, rank in devices]} for address, devices in servers]}


def older(*servers):
    return {"board_id": "0x0000", "chip_info": "910", "deploy_mode": "lab", "group_count": "1", "group_list": [
        {"device_num": "4", "server_num": str(len(servers)), "group_name": "", "instance_count": "4", "instance_list": [
            {"devices": [{"device_id": str(device), "device_ip": "192.1.27.6"}], "rank_id": str(rank),
             "server_id": address} for address, devices in servers for device, rank in devices]}],
            "para_plane_nic_location": "device", "para_plane_nic_name": ["eth0"], "para_plane_nic_num": "1"}


ONE = (("10.0.0.1", ((0, 0), (1, 1), (2, 2))),)
TWO = (("10.0.0.2", ((5, 3), (4, 2))), ("10.0.0.1", ((0, 0), (1, 1))))


def write(tmp_path, contents):
    path = tmp_path / "ranks.json"
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
    return path


@pytest.mark.parametrize("form", [newer, older])
def test_one_server(form, tmp_path):
    table = read_rank_table(write(tmp_path, form(*ONE)))
    assert table == RankTable((Server("10.0.0.1", (0, 1, 2)),)) and table.ranks == 3
    assert table.node_of(["127.0.0.1"]) == 0


@pytest.mark.parametrize("form", [newer, older])
def test_servers_and_devices_come_in_the_order_of_their_ranks(form, tmp_path):
    table = read_rank_table(write(tmp_path, form(*TWO)))
    assert table.servers == (Server("10.0.0.1", (0, 1)), Server("10.0.0.2", (4, 5)))
    assert table.node_of(["10.0.0.2", "127.0.0.1"]) == 1
    with pytest.raises(ValueError, match=r"server_id=10.0.0.1, 10.0.0.2; must hold one address of this machine "
                                         r"\(10.0.0.9\); set SERVER_ID"):
        table.node_of(["10.0.0.9"])


@pytest.mark.parametrize("contents, message", [
    ("{", "is not JSON"),
    ("[]", "is no rank table, it holds no object"),
    ({}, "is no rank table, 'server_list' is missing"),
    (newer(("a", ((0, 0), (1, 2)))), r"rank_id=\[0, 2\]; must be every number from 0 on"),
    (older(("a", ((0, 0), (1, 0)))), r"rank_id=\[0, 0\]; must be"),
    (newer(("a", ())), r"rank_id=\[\]; must be"),
    (newer(("a", ((0, 0), (1, 2))), ("b", ((0, 1), (1, 3)))), "the ranks of b do not follow one another"),
    (newer(("a", ((0, 0),)), ("b", ((0, 1), (1, 2)))), "devices of the servers {'a': 1, 'b': 2}; must be equally many"),
    ({"server_list": [{"server_id": "a", "device": [{"device_id": "x", "rank_id": "0"}]}]},
     "is no rank table, device_id='x' is no number from 0 on"),
    *[(newer(("a", ((value, 0),))), f"is no rank table, device_id='{value}' is no number from 0 on")
      for value in (-1, 0.5, True, "", "9" * 7)],
    *[({"server_list": [{"server_id": "a", "device": [{"device_id": "0", "rank_id": value}]}]},
       f"is no rank table, rank_id={value!r} is no number from 0 on") for value in (-1, 0.5, True, None, 10 ** 7)],
    (newer(("a", ((3, 0), (3, 1)))), r"device_id=\[3, 3\] of a; must differ from one another"),
    (newer(("a b", ((0, 0),))), "is no rank table, server_id='a b' is no name or IPv4 address of a machine"),
    ({"server_list": [{"server_id": None, "device": [{"device_id": "0", "rank_id": "0"}]}]},
     "is no rank table, server_id=None is no name"),
    ("[" * 100_000 + "]" * 100_000, "is no rank table, it is nested thousands deep"),
    ('{"server_list": ' + "[" * 100_000 + "]" * 100_000 + "}", "is no rank table, it is nested thousands deep"),
    ('{"server_list": ' + "9" * 5000 + "}", "is no rank table, Exceeds the limit"),
    (newer(("a", tuple((i, i + 1) for i in range(500)))), r"rank_id=\[1, 2, 3, .*\.\.\. \(\d+ characters\); must be"),
    (" " * (2 ** 26 + 1), "is no rank table, it is larger than 64 MiB"),
])
def test_what_is_no_rank_table_is_refused(contents, message, tmp_path):
    path = write(tmp_path, contents)
    with pytest.raises(ValueError, match=message) as raised:
        read_rank_table(path)
    assert str(raised.value).startswith(f"{path}: ") and len(str(raised.value)) < len(str(path)) + 400


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="/dev/zero: is no rank table, it is not a file; generate it"):
        read_rank_table("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match="it is not a file"):
        read_rank_table(tmp_path / "fifo")


def test_numbers_may_be_written_as_numbers(tmp_path):
    devices = [{"device_id": 4 + rank, "rank_id": rank} for rank in range(2)]
    table = read_rank_table(write(tmp_path, {"server_list": [{"server_id": "a", "device": devices}]}))
    assert table == RankTable((Server("a", (4, 5)),))


def test_this_machine_has_a_name_and_addresses():
    assert own_addresses()[0] and all(isinstance(address, str) for address in own_addresses())
