"""The doors of the exchange: above the ledger, beside the engine, which it meets in shared memory."""
