"""The account view: one follower keeps accounts and orders in memory for all gateways."""
