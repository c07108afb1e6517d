"""Packaging of speechbrain-ext; the tested versions are in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="speechbrain-ext",
    version="0.1.0",
    description="Speaker verification without labels: a SpeechBrain extension",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["speechbrain_ext", "speechbrain_ext.*"]),
    package_data={
        "speechbrain_ext.experiment": ["templates/*"],
        "speechbrain_ext.report": ["templates/*", "reference/*"],
    },
    install_requires=[
        "speechbrain>=1.1,<1.2",
        "torch>=2.6",
        "torchaudio>=2.6",
        "transformers>=5.0,<6",
        "huggingface_hub>=1.0",
        "safetensors>=0.4.3",
        "hyperpyyaml>=1.2.2",
        "faiss-gpu>=1.14; sys_platform == 'linux'",
        "faiss-cpu>=1.11; sys_platform != 'linux'",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "numpy>=1.26",
        "pandas>=2.2",
        "matplotlib>=3.8",
        "soundfile>=0.13",
        "jinja2>=3.1",
        "tqdm>=4.66",
        "tensorboard>=2.15",
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3",
            "ruff>=0.9",
            "mypy>=1.14",
            "fastcluster>=1.2.6",
            "kaldiio>=2.18",
        ]
    },
)
