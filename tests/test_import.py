"""`import bmx` before and after MXNet, and without it; each in a Python of its own."""

import os
import subprocess
import sys

import pytest

from bmx import program

# Python without site-packages: MXNet and NumPy are not installed there.
BARE = ["-S"]


def run(root, script, *options, check=True, **environ):
    result = subprocess.run(
        [sys.executable, *options, "-c", script],
        cwd=root,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 or not check, result.stderr
    return result


def test_alone_it_imports_neither_mxnet_nor_numpy(root):
    run(root, "import sys, bmx; assert not {'mxnet', 'numpy'} & set(sys.modules); assert bmx.Error and bmx.__version__")


def test_what_runs_compiled_networks_needs_no_mxnet(root):
    uses = "bmx.runtime.Model; bmx.program.decode; bmx.export_c.export"
    run(root, f"import sys, bmx; {uses}; assert 'mxnet' not in sys.modules")


def test_no_function_of_bmx_program_has_the_name_of_a_module(root):
    """pytest imports the modules for their doctests, in any order, and binds each to its name."""
    modules = {path.stem for path in (root / "bmx" / "program").glob("*.py")}
    assert not modules & set(program.__all__)


REGISTERED = "assert mx.sym.QConvolution.__doc__ and mx.gluon.nn.QConv2D and mx.optimizer.create('radam')"


@pytest.mark.parametrize(
    "script",
    [
        "import bmx, mxnet as mx; " + REGISTERED + " and 'bmx.models' not in sys.modules",
        "import mxnet as mx, bmx; " + REGISTERED,
        "import bmx; from mxnet.gluon.nn import QDense; import mxnet as mx; " + REGISTERED,
        "from bmx.gluon import nn; import mxnet as mx; nn.QConv2D; " + REGISTERED,
        "import bmx; bmx.models.get_model('lenet'); import mxnet as mx; assert callable(bmx.summary); " + REGISTERED,
    ],
)
def test_mxnet_has_the_operators_in_any_order_of_imports(root, script):
    plain = "; assert not any('bmx' in type(finder).__module__ for finder in sys.meta_path)"
    run(root, "import sys; " + script + plain)


def test_mxnet_imported_in_one_thread_while_another_imports_bmx(root):
    run(
        root,
        "import threading\n"
        "other = threading.Thread(target=__import__, args=('mxnet',)); other.start()\n"
        "import bmx; bmx.gluon; other.join(); import mxnet as mx; " + REGISTERED,
    )


def test_other_import_hooks_go_on_working(root):
    """One that asks all finders itself, as those of tracing tools do, before and behind ours."""
    run(
        root,
        "import importlib.util, sys\n"
        "class Hook:\n"
        "    busy, seen = False, 0\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name != 'mxnet' or self.busy: return None\n"
        "        self.busy = True\n"
        "        try: return importlib.util.find_spec(name)\n"
        "        finally: self.busy, self.seen = False, self.seen + 1\n"
        "first, second = Hook(), Hook()\n"
        "sys.meta_path.insert(0, second); import bmx; sys.meta_path.insert(0, first)\n"
        "import mxnet as mx; assert first.seen and second.seen and mx.__loader__.get_source('mxnet')\n" + REGISTERED,
    )


def test_without_mxnet_what_needs_it_says_so(root):
    script = "import bmx; assert {'gluon', 'runtime'} <= set(dir(bmx)); bmx.library; bmx.gluon"
    result = run(root, script, *BARE, check=False)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("bmx.errors.Error: bmx.gluon needs MXNet, which is not installed: pip install mxnet==1.9.1")


def test_with_a_numpy_that_is_too_new_it_says_so(root, tmp_path):
    (tmp_path / "mxnet.py").write_text("raise AttributeError(\"module 'numpy' has no attribute 'bool'\")")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from bmx import models"
    result = run(root, script, *BARE, check=False)
    assert "bmx.models needs MXNet, which cannot be imported" in result.stderr
    assert result.stderr.rstrip().endswith("MXNet 1.9.1 needs NumPy below 1.24")


@pytest.mark.parametrize("order", ["bmx, mxnet", "mxnet, bmx"])
def test_a_missing_library_is_an_error_whichever_comes_first(root, tmp_path, order):
    script = f"for attempt in 'ab':\n  try: import {order}\n  except Exception as error: print(error)"
    result = run(root, script, BMX_LIBRARY_DIR=str(tmp_path))
    assert result.stdout.count("libbmx_mxnet.so: no such file (in the folder of BMX_LIBRARY_DIR)") == 2


def test_a_library_that_is_older_than_the_code_is_an_error(root):
    script = """
import mxnet as mx
from bmx import Error
from bmx.plugin.operators import DOCUMENTATION, register
DOCUMENTATION["bmx_Newest"] = ("data", "")
try:
    register()
except Error as error:
    assert str(error) == (
        "libbmx_mxnet has no operator bmx_Newest: it is older than the Python code; build it anew (make build)"
    ), error
else:
    raise AssertionError("not refused")
"""
    run(root, script.replace("register()", "register.__wrapped__()"))


def test_unknown_attributes_are_attribute_errors(root):
    import bmx

    with pytest.raises(AttributeError, match="module 'bmx' has no attribute 'fly'"):
        bmx.fly  # noqa: B018
    assert not hasattr(bmx, "numpy")
