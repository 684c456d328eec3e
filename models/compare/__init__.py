"""Compare optimizers on one network and dataset: ``python -m models.compare --config FILE``.

    plan      the comparison file: what is run alike, what is searched for each optimizer
    search    settings from ranges
    runs      one training run: its configuration, its folder, what came of it
    execute   runs in processes of their own, one after another, with progress
    timing    seconds a step in turn, in one process
    results   best settings, tables, CSV
    picture   loss and accuracy against steps and seconds

Nothing here imports MindSpore; the runs are those of models.train.
"""
