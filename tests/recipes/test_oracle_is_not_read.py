"""The true speakers decide nothing: without them, the same model."""

import pytest
import train_chain


@pytest.fixture(scope="module")
def with_oracle(tmp_path_factory):
    return train_chain.run(tmp_path_factory.mktemp("with"))


def test_the_model_is_the_same_when_the_oracle_is_deleted(
    with_oracle, tmp_path_factory
):
    without = train_chain.run(
        tmp_path_factory.mktemp("without"), delete_oracle=True
    )
    assert without.labels == with_oracle.labels
    assert without.weights == with_oracle.weights


def test_other_labels_give_another_model(with_oracle, tmp_path_factory):
    other = train_chain.run(tmp_path_factory.mktemp("other"), n_clusters=3)
    assert other.labels != with_oracle.labels
    assert other.weights != with_oracle.weights
