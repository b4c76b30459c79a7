"""What links the nodes of a cluster: the seam to the rooms, the engine of requests, and Redis."""
