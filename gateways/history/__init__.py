"""History: orders, trades, income and candles behind the report log, in SQLite."""
