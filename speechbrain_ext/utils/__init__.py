"""Errors, files, settings, keyed randomness, processes, arrays, plots.

Nothing here knows of speech.

May import from: no other room.
"""
