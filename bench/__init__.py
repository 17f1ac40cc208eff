"""Benchmarks: each says its conditions, checks its answers and keeps the rows it loses."""
