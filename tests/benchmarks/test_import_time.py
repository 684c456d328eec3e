"""The import benchmark: the first process is not counted, a failed import is one line."""
import pytest

from benchmarks import common, import_time


def test_median_is_over_all_processes_but_the_first(monkeypatch):
    seconds = iter([9.0, 0.1, 0.3, 0.2])
    monkeypatch.setattr(import_time, "import_seconds", lambda: next(seconds))
    numbers = import_time.measure(3)
    assert numbers["import_s_each"] == [0.1, 0.3, 0.2] and numbers["import_s"] == 0.2
    assert "0.200 s, median of 3 processes (0.100 to 0.300)" in import_time.report(numbers)


def test_a_failed_import_is_named(monkeypatch):
    monkeypatch.setattr(import_time, "PROGRAM", "raise ImportError('no such thing')")
    with pytest.raises(common.BenchmarkError, match="import thor failed: ImportError: no such thing"):
        import_time.import_seconds()
