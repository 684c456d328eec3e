"""A Model around a ready train step."""
from __future__ import annotations

from mindspore import Model
from mindspore.train import Callback

from thor.divergence import DivergenceWatch
from thor.sink import cut_on_host, sink_epochs


class StepModel(Model):
    """``mindspore.Model`` around a train step that brings its own loss and optimizer.

    It honours ``sink_size`` on CPU, and shows the step's optimizer to callbacks that change the learning rate.

    With a sink, an epoch is ``sink_size`` steps and the next epoch goes on where the data stopped. MindSpore
    ignores this on CPU and trains whole passes; here the data is cut into the same epochs instead.

    Args:
        step: the train step, with its ``optimizer``.
        predict_network: what ``predict`` runs; by default the step, as in ``mindspore.Model``.
        keywords: the other arguments of ``mindspore.Model``.
    """

    def __init__(self, step, predict_network=None, **keywords):
        super().__init__(step, **keywords)
        self.predictor = None if predict_network is None else Model(predict_network)

    @property
    def _frequency(self) -> int:
        """Steps from refresh to refresh, where programs written for MindSpore's THOR look for them."""
        return self.train_network.optimizer.frequency

    def _watching(self) -> list[Callback]:
        watch = getattr(self.train_network, "watch", None)
        return [] if watch is None else [WatchSinks(watch)]

    def predict(self, *predict_data, **options):
        """As ``mindspore.Model.predict``."""
        if self.predictor is None:
            return super().predict(*predict_data, **options)
        return self.predictor.predict(*predict_data, **options)

    def train(self, epoch, train_dataset, callbacks=None, dataset_sink_mode=False, sink_size=-1, initial_epoch=0):
        """As ``mindspore.Model.train``."""
        if cut_on_host(dataset_sink_mode, sink_size):
            train_dataset, dataset_sink_mode, sink_size = sink_epochs(train_dataset, sink_size), False, -1
        callbacks = [ShowOptimizer(self.train_network.optimizer), *self._watching(), *as_list(callbacks)]
        return super().train(epoch, train_dataset, callbacks, dataset_sink_mode, sink_size, initial_epoch)

    def fit(self, epoch, train_dataset, valid_dataset=None, valid_frequency=1, callbacks=None,
            dataset_sink_mode=False, valid_dataset_sink_mode=False, sink_size=-1, initial_epoch=0):
        """As ``mindspore.Model.fit``."""
        if cut_on_host(dataset_sink_mode, sink_size):
            train_dataset, dataset_sink_mode, sink_size = sink_epochs(train_dataset, sink_size), False, -1
        callbacks = [ShowOptimizer(self.train_network.optimizer), *self._watching(), *as_list(callbacks)]
        return super().fit(epoch, train_dataset, valid_dataset, valid_frequency, callbacks, dataset_sink_mode,
                           valid_dataset_sink_mode, sink_size, initial_epoch)


class ShowOptimizer(Callback):
    """Fills the place where MindSpore's learning rate callbacks look for the optimizer."""

    def __init__(self, optimizer):
        super().__init__()
        self.optimizer = optimizer

    def on_train_begin(self, run_context):
        run_context.original_args().optimizer = self.optimizer


class WatchSinks(Callback):
    """Tells the loss at the end of each sink, whose steps nothing in Python sees, to a watch for divergence."""

    def __init__(self, watch: DivergenceWatch):
        super().__init__()
        self.watch = watch

    def on_train_begin(self, run_context):
        self.watch.start(self._steps_done())

    def on_train_step_end(self, run_context):
        if self.watch.pending is None:  # otherwise the step was called from Python
            self.watch.remember(self._steps_done() - 1, run_context.original_args().net_outputs)
            self.watch.look()
            self.watch.optimizer.warn_of_skipped_updates()

    def _steps_done(self) -> int:
        return int(self.watch.optimizer.global_step.asnumpy()[0])


def as_list(callbacks) -> list:
    """``None``, a callback or several, as a list."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
