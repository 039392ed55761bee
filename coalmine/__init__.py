"""coalmine: GitOps and progressive delivery for machine-learning models."""
