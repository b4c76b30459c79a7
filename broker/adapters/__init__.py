"""What reaches beyond one connection and one process: kept sessions and events, and the bus between nodes."""
