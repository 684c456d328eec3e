"""A Model whose sink arguments train the same steps on every device."""
from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds
from mindspore import Model


class SinkModel(Model):
    """``mindspore.Model`` that honours ``sink_size`` on CPU, where MindSpore has no data sink.

    With a sink, an epoch is ``sink_size`` steps and the next epoch goes on where the data stopped. MindSpore
    ignores this on CPU and trains whole passes; here the data is cut into the same epochs instead.

    Args:
        step: the train step.
        predict_network: what ``predict`` runs; by default the step, as in ``mindspore.Model``.
        keywords: the other arguments of ``mindspore.Model``.
    """

    def __init__(self, step, predict_network=None, **keywords):
        super().__init__(step, **keywords)
        self.predictor = None if predict_network is None else Model(predict_network)

    def predict(self, *predict_data, **options):
        """As ``mindspore.Model.predict``."""
        if self.predictor is None:
            return super().predict(*predict_data, **options)
        return self.predictor.predict(*predict_data, **options)

    def train(self, epoch, train_dataset, callbacks=None, dataset_sink_mode=False, sink_size=-1, initial_epoch=0):
        """As ``mindspore.Model.train``."""
        if cut_on_host(dataset_sink_mode, sink_size):
            train_dataset, dataset_sink_mode, sink_size = sink_epochs(train_dataset, sink_size), False, -1
        return super().train(epoch, train_dataset, callbacks, dataset_sink_mode, sink_size, initial_epoch)

    def fit(self, epoch, train_dataset, valid_dataset=None, valid_frequency=1, callbacks=None,
            dataset_sink_mode=False, valid_dataset_sink_mode=False, sink_size=-1, initial_epoch=0):
        """As ``mindspore.Model.fit``."""
        if cut_on_host(dataset_sink_mode, sink_size):
            train_dataset, dataset_sink_mode, sink_size = sink_epochs(train_dataset, sink_size), False, -1
        return super().fit(epoch, train_dataset, valid_dataset, valid_frequency, callbacks, dataset_sink_mode,
                           valid_dataset_sink_mode, sink_size, initial_epoch)


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
    iterator = dataset.create_tuple_iterator(num_epochs=-1, output_numpy=True)
    while True:
        yield from iterator


def sink_epochs(dataset, sink_size: int):
    """The dataset as epochs of ``sink_size`` batches that continue each other."""
    return ds.GeneratorDataset(SinkSource(dataset, sink_size), dataset.get_col_names(), shuffle=False)
