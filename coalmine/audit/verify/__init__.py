"""Whether the record holds: what Git has of releases, deliveries and rollouts agrees with itself, all of it.

`snapshot` reads Git once; each other module looks at one part and names every break as a `Finding`.
"""
