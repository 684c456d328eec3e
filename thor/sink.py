"""Epochs of ``sink_size`` steps on the CPU, where MindSpore has no data sink."""
from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds

MANY = 2 ** 20  # not -1: MindSpore cannot begin in the middle of endless epochs


def cut_on_host(dataset_sink_mode: bool, sink_size: int) -> bool:
    """Whether the data has to be cut into epochs of ``sink_size`` here, because the device cannot."""
    return dataset_sink_mode and sink_size > 0 and ms.get_context("device_target") == "CPU"


class SinkSource:
    """Endless passes over a dataset, cut into epochs of ``sink_size`` batches.

    MindSpore copies a source for each of its iterators; the stream belongs to the copy that is iterated.
    """

    def __init__(self, dataset, sink_size: int):
        self.dataset = dataset
        self.sink_size = sink_size
        self.stream = None

    def __len__(self):
        return self.sink_size

    def __iter__(self):
        if self.stream is None:
            self.stream = endless(self.dataset)
        for _ in range(self.sink_size):
            yield next(self.stream)


def endless(dataset):
    """Batches of one pass after another, reshuffled by the dataset itself."""
    iterator = dataset.create_tuple_iterator(num_epochs=MANY, output_numpy=True)
    while True:
        yield from iterator


def sink_epochs(dataset, sink_size: int):
    """The dataset as epochs of ``sink_size`` batches that continue each other."""
    return ds.GeneratorDataset(SinkSource(dataset, sink_size), dataset.get_col_names(), shuffle=False)
