"""Text to documents, parts and a vocabulary: nothing lost, nothing leaks from training to held-out documents."""
from __future__ import annotations

import numpy as np
import pytest

from models.bert.corpus import HELD_OUT, TRAIN, CorpusError
from models.bert.corpus import documents as reading
from models.bert.corpus.builtin import builtin_documents, prose
from models.bert.corpus.documents import Piece, find_files, read_documents, sentences
from models.bert.corpus.partition import Parts, part_path, partition, place, read_part
from models.bert.corpus.shards import shorter
from models.bert.corpus.vocabulary import SPECIAL, Vocabulary, read_vocabulary, train_vocabulary


def read(tmp_path, text):
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    return [(piece.starts, piece.lines) for piece in read_documents(file)]


def test_blank_lines_end_documents(tmp_path):
    assert read(tmp_path, "\n a b \nc\n\n\n  \nd\n") == [(True, ["a b", "c"]), (True, ["d"])]
    assert read(tmp_path, "") == read(tmp_path, "\n\n") == []


def test_wikiextractors_tags_end_documents_and_its_blank_lines_do_not(tmp_path):
    text = '<doc id="1" title="A">\nA\n\nfirst\n</doc>\n<doc id="2" title="B">\nB\n\n\nsecond\n</doc>\n'
    assert read(tmp_path, text) == [(True, ["A", "first"]), (True, ["B", "second"])]


def test_a_long_document_comes_in_pieces_that_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_CHARACTERS", 10)
    text = "aaaa\nbbbb\ncccc\ndddd\n\neeee\n"
    assert read(tmp_path, text) == [(True, ["aaaa", "bbbb", "cccc"]), (False, ["dddd"]), (True, ["eeee"])]


def test_all_bytes_are_counted_once(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n\né a\nb\n\n\nc", encoding="utf-8")
    assert sum(piece.bytes for piece in read_documents(file)) == file.stat().st_size


def test_folders_are_searched_and_hidden_files_left_out(tmp_path):
    for name in ("b/wiki_01", "b/wiki_00", "a.txt", ".git/config", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_files([tmp_path, tmp_path / "a.txt"])
    assert [str(file.relative_to(tmp_path)) for file in found] == ["a.txt", "b/wiki_00", "b/wiki_01", "a.txt"]


def test_unusable_input_is_named(tmp_path):
    with pytest.raises(CorpusError, match="^input=.*/no; must be a text file or a folder of them; there is nothing"):
        find_files([tmp_path / "no"])
    with pytest.raises(CorpusError, match="; holds no files; "):
        find_files([tmp_path])
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    with pytest.raises(CorpusError, match="latin: is not UTF-8 text; convert it or leave it out"):
        list(read_documents(tmp_path / "latin"))


@pytest.mark.parametrize("line, expected", [
    ("One. Two? (Three!) \"Four.\"", ["One.", "Two?", "(Three!) \"Four.\""]),
    ("Version 2.10 is e.g. this one.", ["Version 2.10 is e.g. this one."]),
    ("一。二！三", ["一。", "二！", "三"]),
])
def test_sentences(line, expected):
    assert sentences(line) == expected


def test_every_document_is_in_one_part_and_copies_are_with_it(tmp_path):
    documents = [[f"document {i}", f"line {i}"] for i in range(400)]
    pieces = [Piece(lines) for lines in documents + documents[:50]]
    parts = Parts(3, 2, 0.2)
    counts = partition(pieces, tmp_path, parts, seed=1)
    found = {name: list(read_part(part_path(tmp_path, *name))) for name in parts.names()}
    everything = [document for part in found.values() for document in part]
    assert sorted(everything) == sorted(documents + documents[:50])
    held_out = {tuple(d) for name, part in found.items() if name[0] == HELD_OUT for d in part}
    training = {tuple(d) for name, part in found.items() if name[0] == TRAIN for d in part}
    assert not held_out & training and len(held_out | training) == 400
    assert counts == {TRAIN: sum(len(found[TRAIN, i]) for i in range(3)),
                      HELD_OUT: sum(len(found[HELD_OUT, i]) for i in range(2))}
    assert 55 <= len(held_out) <= 105  # 80 expected, three standard deviations of 8


def test_a_document_in_pieces_stays_together(tmp_path):
    pieces = [Piece([f"{i} {j}"], starts=j == 0) for i in range(40) for j in range(3)]
    parts = Parts(2, 2, 0.5)
    partition(pieces, tmp_path, parts, seed=1)
    found = [document for name in parts.names() for document in read_part(part_path(tmp_path, *name))]
    assert sorted(found) == sorted([f"{i} {j}" for j in range(3)] for i in range(40))


def test_what_is_longer_than_a_part_goes_on_as_documents_of_the_same_split(tmp_path):
    pieces = [Piece([f"{i} {j} " + "x" * 20], starts=j == 0) for i in range(20) for j in range(9)]
    parts = Parts(4, 4, 0.5, longest=60)
    counts = partition(pieces, tmp_path, parts, seed=1)
    found = [(name[0], document) for name in parts.names() for document in read_part(part_path(tmp_path, *name))]
    assert sum(counts.values()) == 20 and len(found) == 60 and {len(document) for _, document in found} == {3}
    splits = {line.split()[0]: set() for _, document in found for line in document}
    for split, document in found:
        splits[document[0].split()[0]].add(split)
    assert {len(names) for names in splits.values()} == {1}
    assert sorted(line for _, document in found for line in document) == sorted(piece.lines[0] for piece in pieces)


def test_long_words_take_no_part_in_training_a_vocabulary(tmp_path):
    """Training takes quadratic time of a word's length: a million letters would not end."""
    sentence = "the unhappy cat saw the happy catalogue "
    texts = {"plain": sentence, "long": sentence + "abc" * 400_000 + " " + sentence, "dots": sentence + "a." * 100}
    words = {}
    for index, (name, text) in enumerate(texts.items()):
        path = part_path(tmp_path, TRAIN, index)
        path.write_text("\n" + (sentence + "\n") * 30 + text + "\n")
        words[name] = train_vocabulary([path], 60, lowercase=True).words
    assert words["long"] == words["plain"] and "." in words["dots"]


def test_long_sentences_are_cut_at_spaces_without_loss():
    text = "ab cde " * 9 + "x" * 30 + " end"
    parts = list(shorter(text, 10))
    assert "".join(parts) == text and max(map(len, parts)) <= 10
    assert parts[:2] == ["ab cde ab", " cde ab"] and list(shorter("a b", 10)) == ["a b"] and not list(shorter("", 10))


def test_the_seed_decides_the_split():
    texts = [f"text {i}" for i in range(100)]
    parts = Parts(4, 1, 0.3)
    one, again, other = ([place(text, parts, seed) for text in texts] for seed in (1, 1, 2))
    assert one == again and one != other


def test_only_prose_of_docstrings_is_kept_and_once(tmp_path):
    docstring = '''"""Compute the *mean* of all the values.

    The result is a number that lies between the smallest and the largest of them.

    Parameters
    ----------
    x : array

        >>> mean([1, 2]) is not a sentence of the corpus.
    """
'''
    (tmp_path / "a.py").write_text("def f():\n    " + docstring)
    (tmp_path / "b.py").write_text("def g():\n    " + docstring + "broken(")
    (tmp_path / "c.py").write_text("class C:\n    " + docstring.replace("mean", "sum", 1))
    pieces = list(builtin_documents(sorted(tmp_path.glob("*.py")), workers=1))
    assert [piece.lines for piece in pieces[-3:]] == [
        ["Compute the mean of all the values.",
         "The result is a number that lies between the smallest and the largest of them."],
        [], ["Compute the sum of all the values."]]
    assert sum(len(piece.lines) for piece in pieces[:-3]) > 1000  # Python's own reference text


def test_headings_and_tables_are_no_prose():
    assert prose("A title without an end\n=====\n\nIt is said that this is a real sentence.") == [
        "It is said that this is a real sentence."]
    assert prose("| a | b | c | d | e | f. |") == prose("x1 = 3; y2 = 4; z3 = 5; w4 = 6.") == []


def test_training_a_vocabulary_is_repeatable_and_tokenizing_inverts(tmp_path):
    text = part_path(tmp_path, TRAIN, 0)
    text.write_text("\nthe unhappy cat saw the happy catalogue\n" * 30)
    first, second = (train_vocabulary([text], 60, lowercase=True) for _ in range(2))
    assert first.words == second.words and first.words[:5] == list(SPECIAL) and len(first.words) <= 60
    tokens = first.tokenizer().encode("The Unhappy catalogue").ids
    assert "".join(first.words[i] for i in tokens).replace("##", "") == "theunhappycatalogue"
    np.testing.assert_array_equal(first.ordinary, np.arange(5, len(first.words)))
    assert first.continues[[first.words.index("the")]] == [False] and first.continues.any()


@pytest.mark.parametrize("words, message", [
    (SPECIAL[:-1], r"has no \[MASK\]; give a vocab.txt of BERT's"),
    ((*SPECIAL, "a", "b", "a"), "has 'a' twice"),
])
def test_a_wrong_vocabulary_is_named(tmp_path, words, message):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(words) + "\n")
    with pytest.raises(CorpusError, match=message):
        read_vocabulary(path, lowercase=True)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_vocabulary(tmp_path / "no.txt", lowercase=True)


def test_a_vocabulary_file_keeps_its_ids(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[unused0]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n")
    found = read_vocabulary(path, lowercase=False)
    assert isinstance(found, Vocabulary) and found.ids["a"] == 6
    assert found.tokenizer().encode("ab c").ids == [6, 7, 2]
