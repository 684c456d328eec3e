"""What a run costs on so many devices, before it is started: memory, step time, best mode and split_indices.

The model. Every part of a step is an amount of work over a rate of the device's profile:

- forward and backward pass: three times the operations of the products with weights, counted in one forward pass;
- preconditioning, covariances, im2col, inverses: as counted in :mod:`models.planner.work`; in mode ``hybrid`` the
  inverses are those of the busiest owner that :func:`thor.distribution.assign_owners` makes;
- collectives: rings of the alpha-beta model, hierarchical over nodes, see :mod:`models.planner.network`.

The backward pass leaves the layers from the last to the first, each in proportion to its operations, in a refresh step
with its factors. A group of gradients, or of the factors that ``split_indices`` put together, can be sent when its
first layer is left; groups share the network one after the other. What is not through when the backward pass ends
lengthens the step. One group costs one latency and can hide behind nothing; many groups hide better and cost a latency
each. Of what could hide, a device hides the share ``overlap`` of its profile.

Left out: products of activations with activations (attention scores), the optimizer's own update, LayerNorm and
BatchNorm, the input pipeline, stragglers, layers that a policy does not refresh (a refresh is one of all layers).
"""
