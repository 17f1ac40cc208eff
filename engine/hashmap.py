"""The engine's name for shm/hashmap.py, which followers use as well."""

from __future__ import annotations

from shm.hashmap import find, get, home, put, remove, remove_entry

__all__ = ["find", "get", "home", "put", "remove", "remove_entry"]
