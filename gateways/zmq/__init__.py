"""The native door: orders as msgpack or raw records over ZeroMQ, with keys bound to accounts."""
