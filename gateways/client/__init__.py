"""What a program trades with over ZeroMQ; stands on the part of `shm` that needs no numba."""
