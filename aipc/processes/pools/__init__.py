"""Pools: workers that are replaced when they end, and the requests that wait for them."""
