"""The files that recipes read and write.

Audio, manifests, trial lists, embeddings, labels, other tools' formats,
synthetic voices.

May import from: utils.
"""
