"""Make labels of TRUE speakers, for the supervised upper bound.

Nothing else may read them: all other recipes take pseudo-labels. The stage
record says ``true_labels: true``, and so do the results that follow from it.

To run it:
> python recipes/make_oracle_labels.py hparams/make_oracle_labels.yaml \
    --train_annotation=exp/data/train.csv --oracle=exp/data/oracle.csv \
    --output_folder=exp/oracle_labels
"""

from __future__ import annotations

from speechbrain_ext.clustering.label_metrics import size_statistics
from speechbrain_ext.commands.command_line import run
from speechbrain_ext.dataio.manifest import read_manifest, write_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.dataio.settings import MakeOracleLabels
from speechbrain_ext.experiment.recipe_run import RecipeRun
from speechbrain_ext.utils.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """Write ``pseudo_labels.csv`` whose spk_id are the true speakers."""
    recipe = RecipeRun(__file__, MakeOracleLabels, argv)
    settings: MakeOracleLabels = recipe.settings
    train = read_manifest(settings.train_annotation, "utterances")
    speakers = true_speakers(settings.oracle, train)
    statistics = size_statistics(speakers)
    if statistics["n_clusters"] < 2:
        raise InputError(
            f"{settings.oracle}: all {len(train)} training utterances are "
            f"of one speaker, {speakers[0]!r}, and a classifier needs 2; "
            "bring more speakers, or train without true labels"
        )
    if recipe.is_done(settings.inputs()):
        return
    labels = train.table.assign(spk_id=speakers)
    write_manifest(recipe.folder / "pseudo_labels.csv", labels, "pseudo_labels")
    recipe.finish(["pseudo_labels.csv"], true_labels=True, **statistics)


if __name__ == "__main__":
    run(main)
