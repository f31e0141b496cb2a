"""What a kill, a full disk or a failed rename leaves: the old files or the new ones, and nothing else."""

import os
import resource
import signal

import pytest
from faults import full_disk, kill, with_faults

import bmx
from bmx.writing import clear_leftovers, content, new_folder, write_atomically, write_together

NAMES = ("net-0002.params", "net-symbol.json", "net.resume")
OLD = {name: f"old {name}".encode() for name in NAMES}
NEW = {name: f"new {name}".encode() for name in NAMES}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes milliseconds


@pytest.fixture(params=[NAMES, NAMES[1:], ()], ids=["all old", "a new name", "all new names"])
def folder(tmp_path, request):
    for name in request.param:
        (tmp_path / name).write_bytes(OLD[name])
    return tmp_path


def write_new(folder):
    write_together([(str(folder / name), content(NEW[name])) for name in NAMES])


def test_writes_all(folder):
    write_new(folder)
    assert files(folder) == NEW


def put_back(folder, before):
    for name in os.listdir(folder):
        os.remove(folder / name)
    for name, data in before.items():
        (folder / name).write_bytes(data)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFaults:
    def test_killed_at_any_moment(self, folder):
        before, moments = files(folder), 0
        for result in with_faults(folder, lambda: write_new(folder), kill):
            moments += 1
            found = {name: data for name, data in files(folder).items() if name in NAMES}
            count = sum(found.get(name) == NEW[name] for name in NAMES)  # renamed in their order
            assert found == {**before, **{name: NEW[name] for name in NAMES[:count]}}
            assert result == "killed" or (result is None and count == 3)
            write_new(folder)
            assert files(folder) == NEW, "the next write leaves nothing of the killed one"
            put_back(folder, before)
        assert moments > 9  # each is opened, synced, renamed

    def test_a_full_disk_at_any_moment(self, folder):
        before = files(folder)
        for result in with_faults(folder, lambda: write_new(folder), full_disk):
            found = {name: data for name, data in files(folder).items() if name in NAMES}
            if result in (None, "True"):  # what failed is not needed: a hard link, a removal
                assert found == NEW
            else:
                assert "cannot be written (No space left on device); the old files are unchanged" in result
                assert files(folder) == before
            put_back(folder, before)


def test_a_rename_that_fails_puts_the_old_files_back(folder, monkeypatch):
    before, replace = files(folder), os.replace

    def fails(source, target):
        if source.endswith(f"resume.{os.getpid()}.tmp"):
            raise PermissionError(1, "Operation not permitted")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(bmx.Error, match=r"net.resume: cannot be written \(Operation not permitted\); the old"):
        write_new(folder)
    assert files(folder) == before


def test_files_that_cannot_be_put_back_are_named(tmp_path, monkeypatch):
    """As on a file system without hard links."""
    for name in NAMES:
        (tmp_path / name).write_bytes(OLD[name])
    replace = os.replace

    def fails(source, target):
        if target.endswith("resume"):
            raise PermissionError(1, "Operation not permitted")
        replace(source, target)

    def no_links(*names, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", fails)
    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(bmx.Error) as error:
        write_new(tmp_path)
    new = ", ".join(str(tmp_path / name) for name in NAMES[:2])
    reason = "cannot be written (Operation not permitted)"
    assert str(error.value) == f"{tmp_path / NAMES[2]}: {reason}; {new}: new already, the others are not"
    assert files(tmp_path) == {**NEW, NAMES[2]: OLD[NAMES[2]]}


def test_ctrl_c_between_renames_puts_the_old_files_back(folder, monkeypatch):
    before, replace = files(folder), os.replace

    def interrupted(source, target):
        replace(source, target)
        if target.endswith("symbol.json"):
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_new(folder)
    assert files(folder) == before


def test_an_error_of_the_check_keeps_the_old_files(folder):
    def refuse(drafts):
        assert [os.path.exists(draft) for draft in drafts] == [True] * 3
        raise bmx.Error("other outputs")

    before = files(folder)
    with pytest.raises(bmx.Error, match="^other outputs$"):
        write_together([(str(folder / name), content(NEW[name])) for name in NAMES], refuse)
    assert files(folder) == before


@pytest.mark.parametrize("size", [1, 5, 4095, 5000])
def test_a_file_that_does_not_fit(tmp_path, size):
    path = tmp_path / "net.bmx"
    path.write_bytes(b"old")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        with pytest.raises(bmx.Error, match=r"cannot be written \(File too large\)"):
            write_atomically(str(path), content(bytes(size + 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(tmp_path) == {"net.bmx": b"old"}


class TestLeftovers:
    LEFT = (
        *("net-0001.params.77.tmp", "net-10000.params.77.tmp", "net-symbol.json.8.tmp", "net.resume.99999999.tmp"),
        *("net-0001.params.77.before.tmp", "net.resume.1.before.tmp"),
    )
    OTHERS = (
        *("net-0001.params", "net-symbol.json", "net-best-0001.params.77.tmp", "other.resume.77.tmp", "net.bmx.77.tmp"),
        *("net-001.params.77.tmp", "net-0001.params.x.tmp", "net-0001.params.77.tmp2", "xnet.resume.77.tmp"),
    )

    @pytest.mark.parametrize("name", ["net-0005.params", "net-symbol.json", "net.resume"])
    def test_of_a_checkpoint(self, tmp_path, name):
        for left in self.LEFT + self.OTHERS:
            (tmp_path / left).write_bytes(b"")
        clear_leftovers([str(tmp_path / name)])
        assert set(files(tmp_path)) == set(self.OTHERS)

    def test_of_another_file(self, tmp_path):
        for left in ("a[1].png.7.tmp", "a[1].png.7.before.tmp", "a1.png.7.tmp", "a[1].png.tmp"):
            (tmp_path / left).write_bytes(b"")
        clear_leftovers([str(tmp_path / "a[1].png")])
        assert set(files(tmp_path)) == {"a1.png.7.tmp", "a[1].png.tmp"}

    def test_a_write_that_goes_on_is_left_alone(self, tmp_path, monkeypatch):
        def another(path):
            monkeypatch.setattr(os, "getpid", lambda: 1)
            content(b"half")(path)
            write_new(tmp_path)
            content(b"whole")(path)
            monkeypatch.undo()

        write_atomically(str(tmp_path / "net-0007.params"), another)
        assert files(tmp_path) == {**NEW, "net-0007.params": b"whole"}


def test_a_new_folder_goes_with_the_error(tmp_path):
    with pytest.raises(bmx.Error), new_folder(str(tmp_path / "a" / "b")):
        raise bmx.Error("no")
    with new_folder(str(tmp_path / "a" / "b"), keep=False):
        assert (tmp_path / "a" / "b").is_dir()
    assert not files(tmp_path)
    with new_folder(str(tmp_path / "a" / "b")):
        pass
    assert (tmp_path / "a" / "b").is_dir()
