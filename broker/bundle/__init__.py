"""Holds the official browser client, put here by the set-up step; see tools/fetch_client.py."""
