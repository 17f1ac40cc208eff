"""Shared ground: units, codes, records and configuration; segments, rings, cursors and waiting."""
