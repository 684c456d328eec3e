"""From plain text to shards of masked sentence pairs; ``python -m models.bert.prepare`` is the way in.

    documents, builtin   text to pieces of documents
    partition            documents to parts on disk, training and held out
    vocabulary           a WordPiece vocabulary, trained or given
    pairs, masking       a part to masked sentence pairs
    records              these to records
    shards               one part to one MindRecord file
    preparation          all of it, for records of any kind
    notes                what is written down on the way

Importing these modules does not import MindSpore; only writing a shard does.
"""
# Names in a folder of pretraining data.
TRAIN, HELD_OUT = "train", "held_out"  # folders of shards
CORPUS, VOCABULARY = "corpus.json", "vocab.txt"
WORK = ".work"  # there while the preparation is not finished


class CorpusError(ValueError):
    """Text, vocabulary or output folder that cannot be used, told in one line."""
