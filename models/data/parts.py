"""Which samples are whose, where several devices train."""
from __future__ import annotations

import mindspore.dataset as ds


def held_out_part(samples: ds.Dataset, num_shards: int | None, shard_id: int | None) -> ds.Dataset:
    """Consecutive samples, so that every one is in exactly one part; all of them where ``num_shards`` is None.

    Raises:
        ValueError: there are fewer samples than parts.
    """
    if num_shards is None:
        return samples
    count = samples.get_dataset_size()
    if count < num_shards:
        raise ValueError(f"{count} held-out samples; must be at least {num_shards}, one for each device; hold out more")
    first, end = (count * part // num_shards for part in (shard_id, shard_id + 1))
    return samples.skip(first).take(end - first) if first else samples.take(end)
