"""Data at rest: partitions in files, where they come from, and the checks they must pass.

sources -> schema -> partitions, joined by ingest; report describes what is there.
"""
