"""Outbox, encoded messages, acks, handlers, scopes, settings and errors: everything that needs no socket."""
