"""What pyproject.toml cannot say: packages are found, and one folder from outside is mapped into the wheel.

``experiments`` stays where people type its name; a wheel holds it as ``harness/experiments``, where
:mod:`harness.config.builtin` finds it.
"""

from setuptools import find_namespace_packages, find_packages, setup

EXPERIMENTS = [f"harness.{name}" for name in find_namespace_packages(include=["experiments*"])]

setup(
    packages=[*find_packages(include=["harness*"]), *EXPERIMENTS],
    package_dir={"harness.experiments": "experiments"},
    package_data={
        "harness.report.render": ["templates/*"],
        **{name: ["*.yaml", "*.json"] for name in EXPERIMENTS},
    },
)
