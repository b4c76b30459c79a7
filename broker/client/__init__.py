"""The Trio client of a Socket.IO server."""
