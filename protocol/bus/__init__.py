"""The messages that the nodes of a cluster exchange: their forms, read and written without any I/O."""
