"""Double entry over the report log: above `shm`, and never importing the engine."""
