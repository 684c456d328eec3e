"""Packaging of mindspore-thor: the optimizer (`thor`). The model zoo (`models`) is run from the checkout."""
from pathlib import Path

from setuptools import Extension, find_packages, setup

readme = Path(__file__).with_name("README.md")
native = Path("thor", "backends", "native")
# Optional: without a C compiler the CPU backend uses MindSpore's own operators and NumPy, and says so.
kernels = Extension("thor.backends._kernels", sorted(map(str, native.glob("*.c"))), depends=[str(native / "kernels.h")],
                    extra_compile_args=["-std=c11", "-O3"], extra_link_args=["-pthread"], optional=True)

setup(
    name="mindspore-thor",
    version="0.1.0",
    description="The second-order optimizer THOR for MindSpore on CPU, GPU and Ascend",
    long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
    long_description_content_type="text/markdown",
    packages=find_packages(include=["thor", "thor.*"]),
    ext_modules=[kernels],
    package_data={"thor.backends": ["native/*"]},
    python_requires=">=3.10,<3.13",
    install_requires=["mindspore>=2.7,<2.11", "numpy<2", "scipy", "threadpoolctl"],
    extras_require={
        "zoo": ["pyyaml", "scikit-learn", "matplotlib", "tokenizers", "tqdm", "safetensors"],
        "tensorboard": ["tensorboardX"],  # train.log: [tensorboard]
        "test": ["tensorboardX", "pytest", "pytest-xdist", "ruff", "mypy"],
    },
)
