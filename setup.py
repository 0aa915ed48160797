"""Maps the rooms at the top of the repository into the package ``ingot``; all else is in pyproject.toml."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOMS = ("ir", "targets", "frontend", "passes", "codegen", "runtime")


class BuildWithoutSetup(build_py):
    """Keep this file out of the wheel: at the root of the repository it looks like a module of ``ingot``."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """The modules of a package as triples of package, name and path."""
        modules = super().find_package_modules(package, package_dir)
        return [entry for entry in modules if entry[:2] != ("ingot", "setup")]


found = find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")])
setup(
    packages=["ingot", *(f"ingot.{name}" for name in found)],
    package_dir={"ingot": "."},
    package_data={
        "ingot.frontend.catalog": ["checked.json"],
        "ingot.codegen.gpu": ["sources/*"],
        "ingot.codegen.cuda": ["sources/*"],
        "ingot.codegen.metal": ["sources/*", "host/*.[ch]"],
    },
    cmdclass={"build_py": BuildWithoutSetup},
)
