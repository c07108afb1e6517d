"""Packaging of speechbrain-ext; the tested versions are in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

# Folders of the clone that a wheel has inside the package, with their files;
# speechbrain_ext.utils.shipped finds them in both places.
SHIPPED = {
    "recipes": "*.py",
    "hparams": "*.yaml",
    "pretrained": "*",
}
NAME = "speechbrain_ext"
ROOT = Path(__file__).parent


def shipped_packages() -> dict[str, str]:
    """Return the folders to ship, by the package that each becomes."""
    found = {}
    for top, pattern in SHIPPED.items():
        for path in [ROOT / top, *sorted((ROOT / top).rglob("*"))]:
            if path.is_dir() and any(map(Path.is_file, path.glob(pattern))):
                name = path.relative_to(ROOT).as_posix()
                found[f"{NAME}.{name.replace('/', '.')}"] = name
    return found


packages = shipped_packages()
setup(
    name="speechbrain-ext",
    version="0.1.0",
    description="Speaker verification without labels: a SpeechBrain extension",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="speaker verification, self-supervised learning, SpeechBrain",
    url="https://arxiv.org/abs/2406.02285",
    project_urls={
        "Paper": "https://arxiv.org/abs/2406.02285",
        "SpeechBrain": "https://speechbrain.github.io",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=[NAME, f"{NAME}.*"]),
        *packages,
    ],
    package_dir=packages,
    package_data={
        NAME: ["py.typed"],
        f"{NAME}.experiment": ["templates/*"],
        f"{NAME}.inference": ["templates/*"],
        f"{NAME}.report": ["templates/*", "reference/*"],
        **{
            name: [SHIPPED[folder.split("/")[0]]]
            for name, folder in packages.items()
        },
    },
    entry_points={
        "console_scripts": ["sbext = speechbrain_ext.__main__:program"]
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
        ],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
    },
)
