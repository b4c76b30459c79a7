"""Redis as the bus between nodes, and for processes that are no nodes."""
