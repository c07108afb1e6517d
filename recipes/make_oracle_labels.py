"""TRUE speakers as labels: the supervised topline trains on them.

Nothing else may: every other stage reads pseudo-labels. The receipt says
``true_labels: true``, and so do the results that follow from it.

To run it:
> python recipes/make_oracle_labels.py hparams/make_oracle_labels.yaml \
    --train_annotation=exp/data/train.csv --oracle=exp/data/oracle.csv \
    --output_folder=exp/oracle_labels
"""

from __future__ import annotations

from speechbrain_ext.clustering.label_metrics import size_figures
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.experiment.recipe_run import Stage
from speechbrain_ext.utils.command_line import run
from speechbrain_ext.utils.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """Write ``pseudo_labels.csv`` whose spk_id are the true speakers."""
    stage = Stage(__file__, argv)
    settings = stage.settings
    train = read_manifest(settings["train_annotation"], "utterances")
    speakers = true_speakers(settings["oracle"], train)
    figures = size_figures(speakers)
    if figures["n_clusters"] < 2:
        raise InputError(
            f"{settings['oracle']}: all {len(train)} training utterances are "
            f"of one speaker, {speakers[0]!r}, and a classifier needs 2; "
            "bring more speakers or leave the topline out"
        )
    inputs = {key: settings[key] for key in ("train_annotation", "oracle")}
    if stage.is_done(inputs):
        return
    labels = train.table.assign(spk_id=speakers)
    write_manifest(stage.folder / "pseudo_labels.csv", labels, "pseudo_labels")
    stage.finish(["pseudo_labels.csv"], true_labels=True, **figures)


if __name__ == "__main__":
    run(main)
