"""Packaging of mindspore-thor: the optimizer (`thor`) and the model zoo (`models`)."""
from pathlib import Path

from setuptools import find_packages, setup

readme = Path(__file__).with_name("README.md")

setup(
    name="mindspore-thor",
    version="0.1.0",
    description="The second-order optimizer THOR for MindSpore on CPU, GPU and Ascend, with a model zoo",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    packages=find_packages(include=["thor", "thor.*", "models", "models.*"]),
    package_data={"models.devicecheck": ["stubs/*"]},
    python_requires=">=3.10,<3.13",
    install_requires=["mindspore>=2.7,<2.11", "numpy<2", "pyyaml", "scipy", "threadpoolctl"],
    extras_require={
        "zoo": ["scikit-learn", "matplotlib", "tokenizers", "tqdm"],
        "test": ["pytest", "pytest-xdist"],
    },
)
