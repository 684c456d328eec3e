"""What can be told before any process is started: settings, devices, and the port of msrun's scheduler."""
from __future__ import annotations

import errno
import glob
import importlib.util
import os
import re
import socket
from typing import Any

from models.launch.arguments import MODULE, Unusable, shown

PER_CORE, ALWAYS = 4, 16  # processes a core bears, and a machine that has few
DEVICES = {"GPU": ("CUDA_VISIBLE_DEVICES", "/dev/nvidia[0-9]*"),
           "Ascend": ("ASCEND_RT_VISIBLE_DEVICES", "/dev/davinci[0-9]*")}
LOOPBACK = "127."


def check_settings(job: Any) -> int:
    """0 if training could read its settings, else its exit status, once it has said what is wrong as it always does."""
    target = "CPU"
    if not is_module(job.module):
        raise Unusable(f"MODULE={shown(job.module)}; must be a module that Python finds, such as {MODULE}; check its "
                       "name and PYTHONPATH")
    if job.module == MODULE:
        from models.command_line import quiet_mindspore, run
        from models.train import configuration

        found: list[str] = []
        level = os.environ.get("GLOG_v")
        quiet_mindspore()  # as in training, for modules that the configuration imports
        status = run(lambda: found.append(configuration(job.module_words).device.target))
        if level is None:
            del os.environ["GLOG_v"]  # msrun says at its own level how ranks ended; they set theirs
        if status:
            return status
        target = found[0]
    check_workers(job.workers, target)
    return 0


def is_module(name: str) -> bool:
    """Whether Python finds a module; it is not run."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def check_workers(workers: int, target: str) -> None:
    """Unusable if this machine has fewer devices of this kind, where that can be told, or far fewer cores."""
    devices = count_devices(target)
    if devices and workers > devices:
        raise Unusable(f"--workers={workers}; must be at most {devices}, the devices of device.target={target} that "
                       "this machine shows; start fewer, or use more machines (--nodes)")
    cores = len(os.sched_getaffinity(0))
    if workers > max(PER_CORE * cores, ALWAYS):
        raise Unusable(f"--workers={workers}; must be at most {max(PER_CORE * cores, ALWAYS)} where {cores} cores are "
                       "free; start fewer, or use more machines (--nodes)")


def count_devices(target: str) -> int:
    """Devices of a kind that this machine shows; 0 where that cannot be told, or for CPU."""
    if target not in DEVICES:
        return 0
    variable, pattern = DEVICES[target]
    visible = os.environ.get(variable)
    if visible is not None:
        return len([word for word in visible.split(",") if re.fullmatch("[0-9A-Za-z].*", word.strip())])
    return len(glob.glob(pattern))


def check_master(job: Any) -> None:
    """Unusable if msrun's scheduler cannot listen where it is to, or other machines cannot reach it.

    Job.master holds an IPv4 address afterwards, not a name.
    """
    host, _, port = job.master.rpartition(":")
    name, value = ("server_id", host) if job.rank_table else ("--master", job.master)
    try:
        found = socket.gethostbyname(host)
    except (OSError, UnicodeError):
        raise Unusable(f"{name}={value}; must name a machine, {host} has no IPv4 address; give the first machine's "
                       "address") from None
    if job.nodes > 1 and found.startswith(LOOPBACK):
        raise Unusable(f"{name}={value}; must be an address that all {job.nodes} machines reach; give the first "
                       "machine's address in their network")
    job.master = f"{found}:{port}"
    if is_own(found) and job.node_rank:
        raise Unusable(f"--node-rank={job.node_rank}; must be 0 on the machine whose address is {found}, the first; "
                       "number the machines from it on")
    if not is_own(found) and not job.node_rank:
        raise Unusable(f"{name}={value}; must be an address of this machine, which is the first; give one of its own, "
                       "or its number among the machines with --node-rank")
    if not job.node_rank:
        check_port(job)


def check_port(job: Any) -> None:
    """Unusable if nothing can listen on the port of this machine that the scheduler is to have."""
    host, _, port = job.master.rpartition(":")
    code = listening_error(host, int(port))
    if code is None:
        return
    name, value = ("MASTER_PORT", port) if job.rank_table else ("--master", job.master)
    if code == errno.EADDRINUSE:
        raise Unusable(f"{name}={value}; must be a free port, another program listens on {port}; choose another port "
                       "or end that program")
    raise Unusable(f"{name}={value}; must be a port to listen on ({os.strerror(code)}); choose one above 1023")


def listening_error(host: str, port: int) -> int | None:
    """The number of the error that keeps a program from listening there, None if it can."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as MindSpore does, for ports just let go
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            return error.errno
    return None


def is_own(host: str) -> bool:
    """Whether an IPv4 address is this machine's, as msrun tells it: by the address that packets to it come from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing
        except OSError:
            return False
        return probe.getsockname()[0] == host
