"""Why the two readers of .bmx files refuse a file: that of Python, `bmx.program`, and that of the engine."""

import ctypes

from bmx import program, runtime
from bmx.errors import Error


def of_python(content):
    """The reason, "" if it takes the file."""
    try:
        program.decode(content)
    except Error as error:
        return str(error)
    return ""


def of_engine(content):
    """The reason, "" if it takes the file; no session is made, which would need the memory of the arena."""
    api, model = runtime._api(), ctypes.c_void_p()
    if api.bmx_model_from_memory(bytes(content), len(content), ctypes.byref(model)):
        return api.bmx_last_error().decode()
    api.bmx_model_free(model)
    return ""


def check_refused(content, python, engine):
    """Check that both refuse a file, each with its reason in one line."""
    for reason, found in ((python, of_python(content)), (engine, of_engine(content))):
        assert found, f"not refused: {reason}"
        assert reason in found and "\n" not in found, found


def check_accepted(content):
    """Check that both take a file."""
    assert (of_python(content), of_engine(content)) == ("", "")
