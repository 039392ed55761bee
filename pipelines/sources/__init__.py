"""Sources of datasets: one module each, named in data/<dataset>/dataset.yaml.

A source has `partitions() -> list[str]`, what it offers now, and `load(partition) -> DataFrame`,
the rows of one of them. Checks stand in dataset.yaml, not here.
"""
