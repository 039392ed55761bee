"""What rollouts move and measure, on loopback: fake model servers with faults of their own, users who
keep count, and the real Envoy between them."""
