"""Speaker encoders, poolings and heads: build, save, load, embed.

May import from: dataio, utils.
"""

from speechbrain_ext.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "embedder": "Embedder WaveEmbedder build_embedder save_embedder",
        "embedder_folder": "load_embedder",
        "heads": "DINOHead Projection",
        "joined_embedder": "JoinedEmbedder join_embedders",
        "layer_means": "LayerMeans",
        "momentum_teacher": "MomentumTeacher",
        "pooling": "ContextAwareMHFA MHFA WeightedSumECAPA WeightedSumTDNN",
        "speech_encoder": "RawWaveform SpeakerEncoder SpeechEncoder",
    },
)
