"""Measures the broker beside a physical limit, Node's server and python-socketio."""
