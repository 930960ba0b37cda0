"""Benchmarks: each compares with the bare thing in the same run, interleaved, and prints medians."""
