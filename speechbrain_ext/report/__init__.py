"""Report of a run as a page: answer, plots, clusters and errors to listen to.

May import from: clustering, commands, dataio, experiment, training, utils,
verification.
"""
