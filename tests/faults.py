"""Kills and failures at every moment at which a program touches the files of a folder."""

import errno
import os
import signal
import sys
import traceback

_NEED_SPACE = ("open", "os.rename", "os.link", "os.mkdir")
_EVENTS = {"kill": (*_NEED_SPACE, "os.remove", "os.rmdir", "os.truncate"), "full_disk": _NEED_SPACE}


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def with_faults(folder, action, fault, step=1):
    """Run `action` in forked processes: with `fault` in the place of the first event, of the one `step` later, ...

    An event is a call of the system that opens, syncs, renames, links, makes or removes a file in `folder`. Yields,
    each time, what the process ended with: "killed", the message of a bmx.Error, or None for the last one, in which no
    event was left to fail.
    """
    number = 1 - step
    while True:
        number += step
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _be_child(str(folder), action, fault, number, writer)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL and fault is kill, text
            yield "killed"
            continue
        assert text.startswith("done ") or text.startswith("error "), text
        result = text.partition(" ")[2]
        yield None if text == "done False" else result
        if text == "done False":
            return


def _be_child(folder, action, fault, number, writer):
    count, failed = 0, False

    def event(path):
        nonlocal count, failed
        if isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(folder):
            count += 1
            if count == number:
                failed = True
                fault()

    def hook(name, arguments):
        if name in _EVENTS[fault.__name__]:
            event(arguments[0])

    # A killed process loses nothing that it has written: only a power cut does.
    os.fsync = lambda file: event(os.readlink(f"/proc/self/fd/{file}"))
    sys.addaudithook(hook)
    text = "nothing"
    try:
        action()
        text = f"done {failed}"
    except Exception as error:
        known = type(error).__module__.startswith("bmx.")
        text = f"error {error}" if known else traceback.format_exc()
    finally:
        os.write(writer, text.encode())
        os._exit(0)
