"""The gates beside what other tools decide by, on simulated traffic: `python -m benchmarks.gates`.

Every method sees the same worlds, drawn anew in each run from the ranges in `worlds`, and is judged by
what users saw: false roll-backs, misses, failed requests, time to promotion, all together.
"""
