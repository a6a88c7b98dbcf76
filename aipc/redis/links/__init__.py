"""Connections to a Redis server: kept, shared by a loop, and made again."""
