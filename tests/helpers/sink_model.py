"""A data sink without a device: callbacks are called as MindSpore does on GPU and Ascend, once a sink."""
from __future__ import annotations

from types import SimpleNamespace

from thor.model import StepModel, as_list

MANY = 2 ** 10  # passes over the data; more than any test trains


class SinkContext:
    """What callbacks are handed; ``calls`` are (callback, cur_epoch_num, cur_step_num)."""

    def __init__(self, **parameters) -> None:
        self.parameters = SimpleNamespace(cur_step_num=0, dataset_sink_mode=True, **parameters)
        self.stopped = False

    def original_args(self) -> SimpleNamespace:
        return self.parameters

    def request_stop(self) -> None:
        self.stopped = True


class SinkModel(StepModel):
    """``Model.train`` with a sink, after ``Model._train_dataset_sink_process`` and ``DatasetHelper`` of MindSpore 2.10.

    Steps run one after another on the CPU; what is emulated is when callbacks are called, and with what.
    """

    def train(self, epoch, train_dataset, callbacks=None, dataset_sink_mode=False, sink_size=-1, initial_epoch=0):
        assert dataset_sink_mode, "train.sink is off"
        sink_size = train_dataset.get_dataset_size() if sink_size == -1 else sink_size
        begin = train_dataset.get_init_step()
        train_dataset.set_init_step(begin - begin % sink_size)  # "Init global step must be the end of the epoch"
        context = SinkContext(batch_num=sink_size, sink_size=sink_size, epoch_num=epoch - initial_epoch,
                              train_dataset=train_dataset, train_network=self.train_network, net_outputs=None)
        self.sinks = []

        def call(name):
            for callback in as_list(callbacks):
                getattr(callback, name)(context)

        call("on_train_begin")
        batches = endless(train_dataset)
        for number in range(initial_epoch, epoch):
            context.parameters.cur_epoch_num = number + 1
            call("on_train_epoch_begin")
            context.parameters.cur_step_num += sink_size
            call("on_train_step_begin")
            for _ in range(sink_size):
                context.parameters.net_outputs = self.train_network(*next(batches))
            self.sinks.append(sink_size)
            call("on_train_step_end")
            call("on_train_epoch_end")
            if context.stopped:
                break
        call("on_train_end")


def endless(dataset):
    """Batches of one pass after another."""
    iterator = dataset.create_tuple_iterator(num_epochs=MANY)
    while True:
        yield from iterator
