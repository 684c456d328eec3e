"""A job and a profile small enough to count by hand."""
from __future__ import annotations

from models.planner.job import Job, JobLayer
from models.planner.profile import DeviceProfile
from models.planner.work import LayerWork

PROFILE = DeviceProfile(
    name="unit", description="one operation, one byte a second", forward_backward_flops=1.0, precondition_flops=1.0,
    covariance_flops=1.0, inverse_flops=1.0, copy_bytes=1.0, memory_gib=1.0, devices_per_node=8,
    intra_node_latency=0.0, intra_node_bandwidth=1.0, inter_node_latency=0.0, inter_node_bandwidth=1.0)


def dense(rows: int, columns: int, samples: int) -> JobLayer:
    """A Dense layer whose factors are whole."""
    return JobLayer(LayerWork(1, rows, columns, samples), 2.0 * rows * columns * samples,
                    ((1, columns, columns), (1, rows, rows), (6,)))


def job(**changes) -> Job:
    """Two Dense layers, 3 to 2 and 2 to 4, with biases, on 5 samples; one weight that is not trained."""
    values = dict(name="two_dense", layers=(dense(2, 3, 5), dense(4, 2, 5)),
                  parameters=((6, 0), (2, 0), (8, 1), (4, 1)), weights=21, activations=30, batch_size=5, frequency=10)
    return Job(**{**values, **changes})
