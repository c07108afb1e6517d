"""Parts of every command: one end for failures, folder locks, help.

May import from: utils.
"""
