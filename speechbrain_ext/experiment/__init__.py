"""Recipe runs, stage records, plans, results and the model card.

May import from: clustering, commands, dataio, inference, training, utils,
verification.
"""
