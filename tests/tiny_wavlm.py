"""The configuration of a WavLM of a few thousand weights."""

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
