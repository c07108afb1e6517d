"""Scoring of trials, error rates, confidence intervals, result records.

May import from: dataio, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cllr": "min_cllr",
        "cosine": "cosine_scores",
        "metrics": "equal_error_rate min_dcf",
        "records": "Estimate",
        "results": "Result SystemFacts",
        "score_norm": "as_norm",
    },
)
