"""What a step of THOR must cost beyond a step of momentum; counted in :mod:`thor.planner.work`."""
from thor.planner.work import Floor, LayerWork, block_sizes, floor_seconds, layer_floor, network_floor

__all__ = ["Floor", "LayerWork", "block_sizes", "floor_seconds", "layer_floor", "network_floor"]
