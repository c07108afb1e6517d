"""Report of a run as a page: answer, plots, clusters and errors to listen to.

May import from: clustering, dataio, experiment, training, utils, verification.
"""
