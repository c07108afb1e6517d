"""Bootstrap, clustering and one round on a toy corpus, in this process."""

import dataclasses
import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
EMBEDDER = json.dumps(
    {
        "width": 8,
        "width_last": 16,
        "attention_channels": 8,
        "embedding_size": 8,
    }
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Bytes of the pseudo-labels and of the trained weights."""

    labels: bytes
    weights: bytes


def main(recipe, leaf, **options):
    """A recipe's main, as its command line would call it."""
    path = ROOT / "recipes" / f"{recipe}.py"
    spec = importlib.util.spec_from_file_location(recipe, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = [f"--{key}={json.dumps(v)}" for key, v in options.items()]
    module.main([str(ROOT / "hparams" / leaf), *words, "--noprogressbar"])


def run(folder, delete_oracle=False, n_clusters=4):
    """From voices to a round's weights; the outcome's bytes."""
    corpus = folder / "corpus"
    main(
        "prepare_toy",
        "prepare_toy.yaml",
        output_folder=str(corpus),
        n_speakers=4,
        n_test_speakers=2,
        n_sessions=2,
        n_utterances=2,
        min_seconds=1.0,
        max_seconds=1.2,
        n_trials=20,
        n_sounds=2,
        num_workers=1,
    )
    oracle = corpus / "oracle.csv"
    if delete_oracle:
        oracle.unlink()
    common = {
        "data_folder": str(corpus),
        "num_workers": 0,
        "embedder_yaml": str(ROOT / "hparams/embedders/ecapa.yaml"),
        "embedder": json.loads(EMBEDDER),
        "augment_folder": str(corpus / "augment"),
        "n_epochs": 1,
        "batch_size": 8,
    }
    main(
        "train_dino",
        "train_dino_ecapa_small.yaml",
        train_annotation=str(corpus / "train.csv"),
        output_folder=str(folder / "dino"),
        global_crop=0.8,
        local_crop=0.4,
        **common,
    )
    main(
        "extract_embeddings",
        "extract_embeddings.yaml",
        embedder_folder=str(folder / "dino" / "embedder"),
        annotation=str(corpus / "train.csv"),
        data_folder=str(corpus),
        num_workers=0,
        output_folder=str(folder / "embeddings"),
    )
    main(
        "make_pseudo_labels",
        "make_pseudo_labels.yaml",
        embeddings_folder=str(folder / "embeddings"),
        train_annotation=str(corpus / "train.csv"),
        oracle=str(oracle) if oracle.exists() else None,
        n_centroids=None,
        n_clusters=n_clusters,
        output_folder=str(folder / "labels"),
    )
    labels = folder / "labels" / "pseudo_labels.csv"
    main(
        "train_speaker",
        "train_speaker_ecapa.yaml",
        train_annotation=str(labels),
        output_folder=str(folder / "round"),
        crop=0.8,
        **common,
    )
    weights = folder / "round" / "embedder" / "embedding_model.ckpt"
    return Outcome(labels.read_bytes(), weights.read_bytes())
