"""Where sessions and events are kept beyond one connection: in memory, or outside the process."""
