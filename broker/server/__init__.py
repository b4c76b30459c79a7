"""The broker and its ways in: listener, ASGI application, admission, static client files."""
