"""A package that is installed and offers a network by an entry point."""

from speechbrain_ext.utils.plug_ins import EMBEDDERS

NETWORK = '''
import torch


class Other(torch.nn.Module):
    """Class of the same package that no entry point names."""


class Net(torch.nn.Module):
    def __init__(self, n_mels=40, embedding_size=8):
        super().__init__()
        self.linear = torch.nn.Linear(n_mels, embedding_size)

    def forward(self, features, lengths=None):
        return self.linear(features.std(1)).unsqueeze(1)
'''


def write_package(folder, name, value=None, text=NETWORK):
    """Write what pip leaves of a package in the folder of packages."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        f"[{EMBEDDERS}]\nnet = {value or f'{name}:Net'}\n"
    )
