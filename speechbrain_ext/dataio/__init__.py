"""Files that recipes read and write: audio, manifests, trials, labels.

Audio, manifests, trial lists, embeddings, labels, other tools' formats,
synthetic voices.

May import from: utils.
"""
