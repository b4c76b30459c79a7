"""Fuzz targets: one for each parser that input of a client reaches."""
