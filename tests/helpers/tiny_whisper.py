"""A Whisper of a few thousand weights, and where real ones may lie."""

from pathlib import Path

import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

# Windows of one second in place of 30.
TINY = {
    "model_type": "whisper",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "num_mel_bins": 10,
    "max_source_positions": 50,
}
# The same with windows of 0.2 s: short crops are longer than those.
SHORT = {**TINY, "max_source_positions": 10}
# An embedder with MHFA.
MHFA = {
    "encoder_source": None,
    "encoder_config": TINY,
    "n_heads": 2,
    "compression_size": 4,
    "embedding_size": 8,
}
# Real encoders, beside the repository; tests go without where there are none.
SHARED = Path(__file__).parents[3] / "shared" / "models"


def whole(seed=1):
    """A whole model with a decoder, of weights that are not as they start."""
    torch.manual_seed(seed)
    fields = {name: v for name, v in TINY.items() if name != "model_type"}
    tokens = ("pad", "bos", "eos", "decoder_start")
    decoder = {
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
        "max_target_positions": 8,
        "vocab_size": 12,
        **{f"{name}_token_id": 0 for name in tokens},
    }
    config = WhisperConfig(**fields, **decoder)
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model
