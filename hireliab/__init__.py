"""hireliab."""
