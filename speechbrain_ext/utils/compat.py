"""Private and undocumented names of libraries that the package uses.

Each is named here once. ``tests/unit/utils/test_compat.py`` has a test of what
we rely on for each: a new version that removes or changes one fails there.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

# torch: one kernel for a list of tensors. Any, since their annotations know
# only some of the arguments that they take.
foreach_add_: Any = torch._foreach_add_
foreach_sub: Any = torch._foreach_sub
foreach_mul_: Any = torch._foreach_mul_
foreach_norm: Any = torch._foreach_norm
foreach_lerp_: Any = torch._foreach_lerp_
# torch: the rows of a matrix, each scaled to a given norm, in one kernel.
weight_norm: Any = torch._weight_norm
# torch: the exact GELU, in place.
gelu_: Any = torch.ops.aten.gelu_

# SpeechBrain: methods of ``speechbrain.Brain`` that our Brains override, and
# the parameters that SpeechBrain calls them with.
BRAIN_METHODS = {
    "_compile": "",
    "_save_intra_epoch_ckpt": "",
    "_should_save_intra_epoch_ckpt": "last_ckpt_time steps_since_ckpt",
    "_wrap_distributed": "",
    "check_loss_isfinite": "loss",
    "compute_forward": "batch stage",
    "compute_objectives": "predictions batch stage",
    "fit_batch": "batch",
    "init_optimizers": "",
    "on_fit_batch_end": "batch outputs loss should_step",
    "on_fit_batch_start": "batch should_step",
    "on_fit_start": "",
    "on_stage_end": "stage stage_loss epoch",
    "on_stage_start": "stage epoch",
    "optimizers_step": "",
    "update_average": "loss avg_loss",
}
# SpeechBrain: attributes of a Brain that ``fit`` counts with.
BRAIN_STATE = (
    "avg_train_loss checkpointer distributed_launch hparams modules "
    "optimizer_step optimizers_dict scaler step train_sampler"
).split()

# transformers: parts of its WavLM, HuBERT, wav2vec 2.0 and UniSpeech-SAT that
# `speechbrain_ext.models.SpeechEncoder` calls one by one, by dotted name.
ENCODER_PARTS = (
    "feature_extractor.conv_layers feature_projection encoder.pos_conv_embed "
    "encoder.layer_norm encoder.dropout encoder.layers"
).split()
# transformers: the same of w2v-BERT 2.0, which has no CNN.
BERT_PARTS = (
    "feature_projection encoder.embed_positions encoder.dropout encoder.layers"
).split()
# transformers: the same of ``WhisperEncoder``.
WHISPER_PARTS = (
    "conv1.weight conv2 embed_positions.weight dropout layers layer_norm"
).split()
# transformers: attributes of the layers of those CNNs.
CONV_PARTS = ("conv", "activation")
# transformers: attributes of ``WavLMAttention`` whose place
# `speechbrain_ext.models.wavlm_attention.GatedAttention` takes.
ATTENTION_PARTS = (
    "num_heads dropout num_buckets max_distance k_proj v_proj q_proj out_proj "
    "gru_rel_pos_const gru_rel_pos_linear rel_attn_embed"
).split()


def run_eagerly(module: torch.nn.Module) -> AbstractContextManager[Any]:
    """Return a context in which a module runs as if it was not compiled.

    Shapes that are seen once would be compiled each.

    Arguments
    ---------
    module : torch.nn.Module
        On which `torch.nn.Module.compile` may have been called.

    Returns
    -------
    context manager

    Example
    -------
    >>> with run_eagerly(torch.nn.Linear(2, 2)):
    ...     pass
    """
    # Without it nothing of the compiler is imported, which takes seconds.
    if module._compiled_call_impl is None:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def without_noise(pooling: Any) -> None:
    """Stop SpeechBrain's ``StatisticsPooling`` adding noise to its means.

    Its noise, of some 1e-5, makes each embedding of an x-vector another.

    Arguments
    ---------
    pooling : speechbrain.nnet.pooling.StatisticsPooling
        Changed in place.
    """
    pooling._get_gauss_noise = torch.zeros
