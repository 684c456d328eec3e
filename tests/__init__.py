"""Tests of the packages beside this one, each where the module it tests stands."""
