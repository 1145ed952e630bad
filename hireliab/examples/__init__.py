"""
Examples; each runs offline: python -m hireliab.examples.<name>.

high_reliability_demo  everything together against the simulator
"""
