"""From rows to a release decision: splits, estimators, model files, predictions, metrics with
intervals, and champion against challenger.

The DVC stages in pipelines/ and the steps in operations/ call these; `predict` and `signature`
are also what the server answers with, so that a model says online what it said offline.
"""
