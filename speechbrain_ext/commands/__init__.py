"""What every command shares: one end for failures, locks, help.

May import from: utils.
"""
