"""The engine: sequence, risk, match, settle, journal, publish. Read pipeline.py first."""
