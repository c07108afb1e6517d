"""A model that was scored and exported, on tones, without training."""

import json
from pathlib import Path

import torch
from tiny_wavlm import TINY
from tones import SMALL, without_speakers, write_tones

from recipes import export_model, extract_embeddings, score_trials
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.models.embedder import build_embedder, save_embedder

WAVLM = {
    "encoder_source": None,
    "encoder_config": TINY,
    "embedding_size": 8,
    "n_heads": 2,
    "compression_size": 4,
}
CASES = {"ecapa": SMALL, "encoder_mhfa": WAVLM}


def words(leaf, **options):
    """A recipe's command line without the program."""
    pairs = [f"--{key}={json.dumps(v)}" for key, v in options.items()]
    return [f"hparams/{leaf}.yaml", *pairs, "--device=cpu"]


def corpus(folder):
    """Tones with manifests, labels and trials; what they are for."""
    folder.mkdir(parents=True)
    rows = write_tones(folder)
    write_manifest(folder / "all.csv", without_speakers(rows), "utterances")
    write_manifest(folder / "pseudo_labels.csv", rows, "pseudo_labels")
    names = [(row["ID"], row["spk_id"]) for row in rows]
    trials = [
        f"{int(one[1] == two[1])} {one[0]} {two[0]}\n"
        for place, one in enumerate(names)
        for two in names[:place]
    ]
    (folder / "tones.txt").write_text("".join(trials))


def save(folder, case="ecapa", seed=0):
    """An embedder of random weights."""
    torch.manual_seed(seed)
    embedder = build_embedder(f"hparams/embedders/{case}.yaml", CASES[case])
    # Batch statistics that are not the identity.
    embedder.train()(0.1 * torch.randn(8, 8000))
    save_embedder(folder, embedder.eval())


def score(folder, data, trust_yaml=False, **options):
    """Embed and score what lies in ``folder / "embedder"``."""
    extract_embeddings.main(
        words(
            "extract_embeddings",
            embedder_folder=str(folder / "embedder"),
            annotation=str(data / "all.csv"),
            data_folder=str(data),
            num_workers=0,
            trust_yaml=trust_yaml,
            output_folder=str(folder / "embeddings"),
        )
    )
    score_trials.main(
        words(
            "score_trials",
            **{
                "embeddings_folder": str(folder / "embeddings"),
                "trials": str(data / "tones.txt"),
                "backends": ["raw", "raw+linear"],
                "cohort_folder": str(folder / "embeddings"),
                "cohort_labels": str(data / "pseudo_labels.csv"),
                "corpus": "tones",
                "caveat": "toy tones",
                "run": "tones",
                "n_bootstrap": 20,
                "output_folder": str(folder / "scores"),
                **options,
            },
        )
    )


def arguments(folder, **options):
    """The export's command line."""
    return words(
        "export_model",
        **{
            "embedder_folder": str(folder / "embedder"),
            "embeddings_folder": str(folder / "embeddings"),
            "scores_folder": str(folder / "scores"),
            "output_folder": str(folder / "export"),
            "run_folder": str(folder),
            **options,
        },
    )


def publish(folder: Path, case="ecapa", seed=0):
    """Corpus, embedder, scores and export; the shared folder."""
    data = folder / "data"
    if not data.exists():
        corpus(data)
    save(folder / "embedder", case, seed)
    score(folder, data)
    export_model.main(arguments(folder))
    return folder / "export" / "model"
