"""Builds libbmx and libbmx_mxnet with CMake into the package; everything else about the project is in pyproject.toml.

Without MXNet, which no Python newer than 3.11 has, it builds libbmx alone: what `bmx.runtime` needs.

Environment: ``CMAKE_ARGS`` is passed on to CMake (``CMAKE_ARGS="-DBMX_SANITIZE=ON"``), ``BINARY_WORD_TYPE``
(uint32 | uint64) sets the CMake option of that name.
"""

import atexit
import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# In the checkout, where the next build goes on from it; elsewhere if that cannot be written.
BUILD = ROOT / "build" if os.access(ROOT, os.W_OK) else Path(tempfile.mkdtemp(prefix="bmx-build-"))


def mxnet_folder():
    """Return the folder of the mxnet package of this Python, found without importing it, or None."""
    spec = importlib.util.find_spec("mxnet")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def onednn_folder():
    """Return the folder of dnnl-config.cmake in the package onednn-devel-cpu-gomp, or None without that package."""
    try:
        files = importlib.metadata.files("onednn-devel-cpu-gomp") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(file.locate()).resolve().parent for file in files if file.name == "dnnl-config.cmake"), None)


class CMakeBuild(build_ext):
    """Runs CMake instead of compiling sources itself; an extension bmx.libNAME is the CMake target NAME."""

    def get_ext_filename(self, fullname):
        """Return the library's name, without a Python ABI in it."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extensions(self):
        """Build all libraries and copy them to where setuptools wants them."""
        build = BUILD / "cmake"
        run(["cmake", "-S", str(ROOT), "-B", str(build), *self.cmake_options(build)], stdout=subprocess.DEVNULL)
        names = [ext.name.rpartition(".")[2] for ext in self.extensions]
        targets = [name[len("lib") :] for name in names]
        run(["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1), "--target", *targets])
        for ext, name in zip(self.extensions, names):
            target = Path(self.get_ext_fullpath(ext.name))
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(build / f"{name}.so"), str(target))

    @staticmethod
    def cmake_options(build):
        """Return the options that this Python and the environment give; no earlier build's paths and word type stay."""
        if mxnet_folder() is None:
            options = ["-DMXNET_DIR=", "-DBMX_USE_ONEDNN=OFF"]
        else:
            options = [f"-DMXNET_DIR={mxnet_folder()}", "-UBMX_USE_ONEDNN"]
            if onednn_folder():
                options.append(f"-Ddnnl_DIR={onednn_folder()}")
        ninja = shutil.which("ninja")
        if ninja and not (build / "Makefile").exists():
            options += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        word_type = os.environ.get("BINARY_WORD_TYPE")
        options.append(f"-DBINARY_WORD_TYPE={word_type}" if word_type else "-UBINARY_WORD_TYPE")
        return options + shlex.split(os.environ.get("CMAKE_ARGS", ""))


class PlatformWheel(bdist_wheel):
    """A wheel for one platform and any Python 3, as the library has no Python ABI; one without MXNet for newer ones."""

    def run(self):
        """Pack what is built now: not what an earlier build, for another Python perhaps, has left."""
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()

    def get_tag(self):
        """Return the tag in the wheel's file name."""
        return ("py3" if sys.version_info < (3, 12) else "py312", "none", super().get_tag()[2])


def run(command, **options):
    """Run `command`; a missing program or a failure ends the build with one line."""
    try:
        subprocess.run(command, check=True, **options)
    except FileNotFoundError:
        raise SystemExit(f"bmx: {command[0]} not found: pip install cmake ninja") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"bmx: the C++ build failed, see above: {shlex.join(error.cmd)}") from None


libraries = ["libbmx", "libbmx_mxnet"] if mxnet_folder() else ["libbmx"]
options = {}
if BUILD.parent != ROOT:
    atexit.register(shutil.rmtree, BUILD, ignore_errors=True)
    options = {"build": {"build_base": str(BUILD)}, "egg_info": {"egg_base": str(BUILD)}}
setup(
    options=options,
    license="Apache-2.0",  # here, as no form in pyproject.toml suits the setuptools of both Python 3.8 and 3.11
    ext_modules=[Extension(f"bmx.{name}", sources=[]) for name in libraries],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": PlatformWheel},
)
