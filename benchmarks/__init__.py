"""Benchmarks: ``python -m benchmarks [name …] [--quick] [--json FILE]``; see README.rst beside this file."""
