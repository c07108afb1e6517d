"""Load embedder folders, of one's own or of somebody else.

Their ``hyperparams.yaml`` is read as data by the registry of `safe_modules`,
unless it is trusted; their weights are tensors only.
"""

from __future__ import annotations

from pathlib import Path

import torch

from speechbrain_ext.models.embedder import Embedder, WaveEmbedder
from speechbrain_ext.models.safe_modules import (
    build_modules,
    describe_modules,
)
from speechbrain_ext.models.settings import MODEL, RECIPE
from speechbrain_ext.utils.errors import InputError
from speechbrain_ext.utils.files import PathLike, check_links
from speechbrain_ext.utils.saved_tensors import read_state

# Values of the spectrum of a second: 80 bands every 10 ms take 40,000.
_SPECTRUM = 50_000_000


def load_embedder(
    folder: PathLike,
    device: str | torch.device = "cpu",
    trust_yaml: bool = False,
) -> Embedder:
    """Load the embedder of a folder.

    Arguments
    ---------
    folder : str or os.PathLike
        Written by `save_embedder` or a training recipe.
    device : str or torch.device
        Where to put it.
    trust_yaml : bool
        Run ``hyperparams.yaml``, which may call any function and follow any
        link: for modules of your own. Otherwise it is read as data, in which
        `speechbrain_ext.models.safe_modules.KNOWN` alone can be named.

    Returns
    -------
    Embedder
        In eval mode.

    Raises
    ------
    InputError
        The folder is not an embedder folder, its YAML names an unknown class,
        a file in it is a link that leaves it, or its weights do not fit.

    Example
    -------
    >>> from speechbrain_ext.models import build_embedder, save_embedder
    >>> small = {"width": 16, "width_last": 48, "embedding_size": 8}
    >>> embedder = build_embedder("embedders/ecapa.yaml", small)
    >>> folder = getfixture("tmp_path")
    >>> _ = save_embedder(folder, embedder)
    >>> wavs = torch.randn(2, 16000)
    >>> torch.equal(load_embedder(folder).embed(wavs), embedder.embed(wavs))
    True
    """
    folder = Path(folder)
    missing = [n for n in (RECIPE, MODEL) if not (folder / n).is_file()]
    if missing:
        raise InputError(
            f"{folder} is not an embedder folder; it lacks {missing}; give "
            "the folder named embedder that a train recipe wrote"
        )
    if trust_yaml:
        embedder = Embedder((folder / RECIPE).read_text(encoding="utf-8"))
        load_weights(embedder, folder)
    else:
        embedder = _built_from_data(folder)
        checked_size(embedder, folder)
    return embedder.to(device).eval()


def _built_from_data(folder: Path) -> Embedder:
    """Build the embedder of a folder; neither YAML nor pickle runs code."""
    check_links(folder, (RECIPE, MODEL))
    try:
        text = (folder / RECIPE).read_text(encoding="utf-8")
        modules = build_modules(describe_modules(text), read_weights(folder))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{folder / RECIPE} is not UTF-8 ({error.reason}); get the folder "
            "again"
        ) from None
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    return Embedder(text, modules)


def read_weights(folder: PathLike) -> dict[str, torch.Tensor]:
    """Read the weights of an embedder folder; a pickle in them runs nothing.

    Raises
    ------
    InputError
        There are none, or they are not a dict of tensors.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "embedding_model.ckpt").touch()
    >>> read_weights(folder)
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: ...embedding_model.ckpt cannot ...
    """
    path = Path(folder) / MODEL
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; --init_from takes an embedder folder"
        )
    state, reason = read_state(path)
    if reason:
        raise InputError(
            f"{path} cannot be read as weights ({reason}); get the folder "
            "again, or train it again"
        )
    return state


def checked_size(embedder: WaveEmbedder, where: PathLike) -> int:
    """Return the embedding size; refuse a model that cannot embed a second.

    Its arguments fit its weights then, and may still make no sense together:
    a hop of no samples, a window without end.

    Arguments
    ---------
    embedder : WaveEmbedder
        Of somebody else, on the CPU.
    where : str or os.PathLike
        Its folder, for the message.

    Raises
    ------
    InputError
        It fails on one second of silence, or would take gigabytes for it.

    Example
    -------
    >>> from speechbrain.lobes.features import Fbank
    >>> from speechbrain_ext.models.speech_encoder import RawWaveform
    >>> norm, model = RawWaveform(), torch.nn.Linear(40, 2)
    >>> checked_size(WaveEmbedder(Fbank(), norm, model), "m")
    202
    >>> checked_size(WaveEmbedder(Fbank(hop_length=0), norm, model), "m")
    Traceback (most recent call last):
    speechbrain_ext.utils.errors.InputError: m cannot embed a second of ...
    """
    try:
        stft = getattr(embedder.features, "compute_STFT", None)
        n_values = 0 if stft is None else stft.n_fft * 16000 // stft.hop_length
        if n_values <= _SPECTRUM:
            return embedder.embedding_size
        reason = f"its spectrum has {n_values:,} values, not {_SPECTRUM:,}"
    # Many kinds of errors, depending on what does not fit.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise InputError(
        f"{where} cannot embed a second of silence ({reason}); the arguments "
        "of its modules are wrong; get the folder again"
    )


def load_weights(embedder: Embedder, folder: PathLike) -> None:
    """Copy the weights of an embedder folder into an embedder.

    Its ``hyperparams.yaml`` is not read.

    Raises
    ------
    InputError
        There are no weights, or they do not fit.
    """
    try:
        embedder.model.load_state_dict(read_weights(folder))
    except RuntimeError as error:
        raise InputError(
            f"{Path(folder) / MODEL} does not fit the model it is loaded into: "
            f"{error}; use the same embedder YAML and sizes as the run that "
            "saved it"
        ) from None
