"""Configurations of a WavLM of a few thousand weights."""

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8, 8],
    "conv_stride": [20, 16],
    "conv_kernel": [20, 16],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
# Its first kernel overlaps its neighbours.
SMALL = {
    **TINY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "conv_dim": [16, 16],
    "conv_kernel": [25, 16],
    "num_conv_pos_embeddings": 16,
}
# Large: LayerNorm in the CNN and before each transformer layer.
LARGE = {**SMALL, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
