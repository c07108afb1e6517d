# %% [markdown]
# # A first model
#
# From speech without labels to a model that says whether two recordings are
# of one speaker: on synthetic voices, in minutes on two CPU cores. What you
# see here is how it works; numbers on synthetic voices say nothing about real
# speech. Run it from the clone's root, as a script or cell by cell:
#
# > python tutorials/first_model.py

# %%
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from speechbrain_ext.dataio.manifest import read_manifest
from speechbrain_ext.dataio.oracle import true_speakers
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.verification.results import read_results
from speechbrain_ext.verification.tables import render_table

RUN = Path("exp/tutorial")
# Options of run_rounds besides, for instance to make it shorter.
OPTIONS = shlex.split(os.environ.get("TUTORIAL_OPTIONS", ""))

# %% [markdown]
# ## 1. The whole loop, one command
#
# It makes voices, trains SimCLR on them without labels, clusters its
# embeddings, trains a speaker model on the clusters, clusters again, and
# scores every model. Typed again, it skips what is done and resumes what was
# interrupted.

# %%
subprocess.run(
    [
        sys.executable,
        "recipes/run_rounds.py",
        "hparams/plans/quickstart.yaml",
        f"--output_folder={RUN}",
        *OPTIONS,
    ],
    env={**os.environ, "PYTHONPATH": os.getcwd()},
    check=True,
)

# %% [markdown]
# ## 2. What it read
#
# One utterance a row, and no speaker anywhere: true speakers are in
# `oracle.csv`, which only reports read.

# %%
train = read_manifest(RUN / "corpus" / "train.csv", "utterances")
print(train.table.head())
print(f"{len(train)} utterances, {train.duration.sum() / 60:.1f} minutes")

# %% [markdown]
# ## 3. What it made up: pseudo-speakers
#
# Each cluster of embeddings stands for a speaker. How pure are they? The
# share of utterances whose true speaker is the most frequent of their cluster:

# %%
for system in ("bootstrap", "round1"):
    path = RUN / system / "labels" / "pseudo_labels.csv"
    labels = read_manifest(path, "pseudo_labels")
    speakers = true_speakers(RUN / "corpus" / "oracle.csv", labels)
    table = pd.crosstab(labels.spk_id, np.asarray(speakers))
    purity = table.max(axis=1).sum() / len(labels)
    print(f"{system}: {len(table)} clusters, purity {purity:.1%}")

# %% [markdown]
# ## 4. What each step was worth
#
# Every row comes from a result file; `exp/tutorial/report.html` has pictures.

# %%
print(render_table(read_results(RUN / "results")))

# %% [markdown]
# ## 5. The model, as a stranger loads it
#
# The run ends with a folder to share: weights, a card that tells all of the
# above, and a calibrated threshold. Loading it runs no code of that folder.

# %%
verifier = SpeakerVerifier.from_pretrained(
    RUN / "published" / "export" / "model", device="cpu"
)
wavs = sorted((RUN / "corpus" / "test" / "wav").rglob("*.wav"))
one = wavs[0]
same = [p for p in wavs if p.parts[-3] == one.parts[-3] and p != one]
other = [p for p in wavs if p.parts[-3] != one.parts[-3]]
for words, path in (("one speaker", same[-1]), ("two speakers", other[-1])):
    found = verifier.verify(one, path)
    print(
        f"{words}: score {found.score:.3f}, probability of one speaker "
        f"{found.probability:.3f}, decided as "
        f"{'one' if found.same else 'two'}"
    )

# %% [markdown]
# ## 6. Yours
#
# The same with a folder of your own speech:
#
# > python recipes/run_rounds.py hparams/plans/folder.yaml --data_folder=SPEECH
#
# and how to share what comes out is in docs/steps/export_model.md.
