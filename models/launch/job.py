"""What the launcher is asked to start."""
from __future__ import annotations

import argparse


class Job(argparse.Namespace):
    """What msrun is to start: workers a machine, nodes, node_rank, master, rank_table, module and its arguments."""

    @property
    def ranks(self) -> range:
        """The ranks on this machine."""
        return range(self.node_rank * self.workers, (self.node_rank + 1) * self.workers)

    @property
    def total(self) -> int:
        """The ranks on all machines."""
        return self.workers * self.nodes

    @property
    def module_words(self) -> list[str]:
        """What the module is given."""
        return [*self.arguments, "--parallel.device_num", str(self.total)]
