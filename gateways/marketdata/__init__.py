"""Market data: one follower builds every message once, gateways forward them."""
