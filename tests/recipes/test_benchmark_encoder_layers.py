"""The benchmark of layers: it embeds as the fitted pooling itself would."""

import json

import numpy as np
import pandas as pd
import torch
from tiny_whisper import whole
from tones import without_speakers, write_tones

from benchmarks import encoder_layers
from speechbrain_ext.dataio.manifest import write_manifest
from speechbrain_ext.models.layer_means import RawStatistics
from speechbrain_ext.models.speech_encoder import SpeechEncoder
from speechbrain_ext.utils.vectors import unit_rows


def test_statistics_are_pooled_as_states_are(tmp_path):
    whole().save_pretrained(tmp_path / "whisper")
    encoder = SpeechEncoder(tmp_path / "whisper")
    wavs = [torch.randn(1, n) for n in range(6000, 14000, 100)]
    raw = RawStatistics(encoder).eval()
    with torch.no_grad():
        found = torch.cat([raw(wav) for wav in wavs]).numpy()
        pooling = encoder_layers.fitted(found.copy(), [2], 3, power=0.5)
        wanted = torch.cat([pooling(encoder(wav)) for wav in wavs]).numpy()
    given = encoder_layers.embeddings(found, pooling, 3)
    np.testing.assert_allclose(given, unit_rows(wanted), atol=1e-3)


def test_each_layer_and_pair_has_a_row(tmp_path):
    whole().save_pretrained(tmp_path / "whisper")
    rows = write_tones(tmp_path, n_utterances=4)
    speakers = {row["ID"]: row["spk_id"] for row in rows}
    rows = without_speakers(rows)
    for name in ("train", "test"):
        write_manifest(tmp_path / f"{name}.csv", rows, "utterances")
    oracle = pd.DataFrame(speakers.items(), columns=["ID", "spk_id"])
    write_manifest(tmp_path / "oracle.csv", oracle, "oracle")
    facts = json.dumps({"data_root": str(tmp_path)})
    (tmp_path / "stage.json").write_text(facts)
    (tmp_path / "trials").mkdir()
    ids = sorted(speakers)
    lines = [
        f"{int(speakers[a] == speakers[b])} {a} {b}"
        for n, a in enumerate(ids)
        for b in ids[n + 1 :]
    ]
    (tmp_path / "trials" / "all.txt").write_text("\n".join(lines))
    table = pd.DataFrame({"layer": [0, 1, 2], "eer": [3.0, 1.0, 2.0]})
    table.to_csv(tmp_path / "layers.csv", index=False)
    encoder_layers.main(
        [
            f"--corpus={tmp_path}",
            f"--encoder={tmp_path / 'whisper'}",
            f"--choice={tmp_path / 'layers.csv'}",
            "--n_clusters=4",
            f"--output={tmp_path / 'found.json'}",
        ]
    )
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    sets = [row["layers"] for row in found]
    assert sets == [[0], [1], [2], [0, 1], [1, 2]]
    assert [row.get("eer of crop pairs") for row in found[:3]] == [3, 1, 2]
    assert all(0 <= row["eer all"] <= 100 for row in found)
    assert (tmp_path / "found.png").stat().st_size > 1000
