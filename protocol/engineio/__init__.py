"""Engine.IO revision 4: packets, polling payloads, handshake checks, state tables, heartbeat."""
