"""What an application touches: namespaces, sockets, rooms and broadcasts."""
