"""Benchmarks: ``python -m benchmarks [name …] [--quick] [--json FILE] [--plot DIR]``; see README.rst beside this file."""
