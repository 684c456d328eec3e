"""Measurements against first order and against LAPACK: each prints a table and, with ``--json FILE``, numbers."""
