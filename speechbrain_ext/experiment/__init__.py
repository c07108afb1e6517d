"""Recipe runs, stage records, plans, reports and the model card.

May import from: clustering, dataio, inference, training, utils, verification.
"""
