"""The doors of the exchange: above the ledger, meeting the engine in shared memory alone."""
