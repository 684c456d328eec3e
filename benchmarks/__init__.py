"""Measurements against first order and LAPACK: each prints a table and, with ``--json FILE``, numbers."""
