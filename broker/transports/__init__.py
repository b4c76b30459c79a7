"""Ways to move the packets of one session: polling, and WebSocket over whatever carries it."""
