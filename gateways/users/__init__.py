"""Who may do what: users, their API keys and sessions, in SQLite."""
