"""Engine.IO sessions: their nursery, their reader, the heartbeat, the upgrade, the registry."""
