"""What it costs to drive many rollouts in one process.

    python -m benchmarks.runner [--rollouts 100] [--seconds 60] [--profile]

One real Envoy with every model in it, real router, telemetry, reconciler and journals on disk; two
fake model servers for each model, all in one process, and users at two requests per second and model.
Git is left out, since a rollout under way does not ask it. Exit status 1 when a target is missed.
"""
