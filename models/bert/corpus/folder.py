"""Names in a folder of pretraining data."""
TRAIN, HELD_OUT = "train", "held_out"  # folders of shards
CORPUS, VOCABULARY = "corpus.json", "vocab.txt"
WORK = ".work"  # there while the preparation is not finished
