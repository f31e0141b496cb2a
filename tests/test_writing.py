"""What a kill, a full disk or a failed rename leaves: the old files or the new ones, and nothing else."""

import os
import resource
import signal
import time

import pytest
from faults import full_disk, kill, with_faults

import bmx
from bmx.journal import NAME, finish
from bmx.writing import clear_leftovers, content, new_folder, write_atomically, write_together

NAMES = ("net-0002.params", "net-symbol.json", "net.resume")
OLD = {name: f"old {name}".encode() for name in NAMES}
NEW = {name: f"new {name}".encode() for name in NAMES}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def known(folder):
    return {name: data for name, data in files(folder).items() if name in NAMES}


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


def snapshot(folder):
    """Function that puts the same files back, not only their content."""
    kept = folder.parent / f"{folder.name} kept"
    kept.mkdir(exist_ok=True)
    for path in kept.iterdir():
        path.unlink()
    for path in folder.iterdir():
        os.link(path, kept / path.name)

    def put_back_all():
        put_back(folder, {})
        for path in kept.iterdir():
            os.link(path, folder / path.name)

    return put_back_all


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFaults:
    def test_killed_at_any_moment(self, folder):
        before, moments = files(folder), 0
        for result in with_faults(folder, lambda: write_new(folder), kill):
            moments += 1
            found = known(folder)
            replaced = {found[name] == NEW[name] for name in before if name in found}
            assert len(replaced) < 2, "other programs see no new file beside an old one"
            assert found.get(NAMES[0]) in (before.get(NAMES[0]), NEW[NAMES[0]]), "nor do they ever miss the first"
            put_back_left = snapshot(folder)
            finish(str(folder / NAMES[1]))
            found = known(folder)
            assert found in (before, NEW) and (result == "killed" or found == NEW)
            put_back_left()
            write_new(folder)
            assert files(folder) == NEW, "the next write leaves nothing of the killed one"
            put_back(folder, before)
        assert moments > 20  # each is opened, synced, set aside, renamed

    def test_killed_while_finishing(self, folder):
        before = files(folder)
        for _ in with_faults(folder, lambda: write_new(folder), kill, 4):
            put_back_left = snapshot(folder)
            for _ in with_faults(folder, lambda: finish(str(folder / NAMES[2])), kill):
                finish(str(folder / NAMES[0]))
                assert known(folder) in (before, NEW)
                put_back_left()
            put_back(folder, before)

    def test_killed_with_files_in_several_folders(self, tmp_path):
        """As of `bmx compile -o net.bmx --mxnet fast/net`; whoever looks at one folder finishes the others too."""
        folders = [tmp_path / name for name in "cab"]
        for path in folders:
            path.mkdir()
        paths = [str(folders[number % 3] / str(number)) for number in range(5)]

        def write(data):
            write_together([(path, content(data + path.encode())) for path in paths])

        def found():
            return {open(path, "rb").read()[:3] for path in paths}

        write(b"old")
        seen = set()
        for number, result in enumerate(with_faults(tmp_path, lambda: write(b"new"), kill)):
            for folder in (folders[number % 3], *folders):
                finish(str(folder / "any"))
            assert len(found()) == 1 and (result == "killed" or found() == {b"new"})
            seen |= found()
            write(b"old")
            assert sorted(str(path) for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)
        assert seen == {b"old", b"new"}

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
    for name in NAMES:
        (tmp_path / name).write_bytes(OLD[name])
    replace = os.replace

    def fails(source, target):
        if target.endswith("resume"):
            raise PermissionError(1, "Operation not permitted")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(bmx.Error) as error:
        write_new(tmp_path)
    path, aside = tmp_path / NAMES[2], f"{NAMES[2]}.{os.getpid()}.before.tmp"
    reason = "cannot be written (Operation not permitted)"
    assert str(error.value) == f"{path}: {reason}; the old {path} is {tmp_path / aside} now"
    assert files(tmp_path) == {NAMES[0]: OLD[NAMES[0]], NAMES[1]: OLD[NAMES[1]], aside: OLD[NAMES[2]]}


def test_without_hard_links(folder, monkeypatch):
    def no_links(*names, **options):
        raise PermissionError(1, "Operation not permitted")

    before, replace = files(folder), os.replace
    monkeypatch.setattr(os, "link", no_links)
    with monkeypatch.context() as patch, pytest.raises(bmx.Error, match="the old files are unchanged"):
        patch.setattr(os, "replace", lambda *names: replace(*names) if "before" in str(names) else no_links())
        write_new(folder)
    assert files(folder) == before
    write_new(folder)
    assert files(folder) == NEW


class TestJournal:
    def killed(self, folder):
        """Leave what a kill at the last rename leaves."""
        child = os.fork()
        if child == 0:
            replace = os.replace
            os.replace = lambda *names: kill() if names[1].endswith(".resume") else replace(*names)
            write_new(folder)
        os.waitpid(child, 0)
        assert {NAME, *NAMES[:2]} < set(files(folder)) and NAMES[2] not in files(folder)

    @pytest.fixture
    def folder(self, tmp_path):
        for name in NAMES:
            (tmp_path / name).write_bytes(OLD[name])
        self.killed(tmp_path)
        return tmp_path

    def test_two_that_finish_at_once(self, folder):
        children = []
        for _ in range(8):
            children.append(os.fork())
            if children[-1] == 0:
                finish(str(folder / NAMES[0]))
                os._exit(0)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
        assert files(folder) == NEW

    def test_a_reader_waits_for_a_write(self, tmp_path):
        for name in NAMES:
            (tmp_path / name).write_bytes(OLD[name])
        writing = os.fork()
        if writing == 0:
            replace = os.replace
            os.replace = lambda *names: (time.sleep(0.05), replace(*names))
            write_new(tmp_path)
            os._exit(0)
        while os.waitpid(writing, os.WNOHANG)[0] == 0:
            finish(str(tmp_path / NAMES[0]))
            if not (tmp_path / NAME).exists():
                assert set(NAMES) <= set(files(tmp_path))
        assert files(tmp_path) == NEW

    def test_files_of_others_are_not_renamed(self, folder):
        """Such as what an archive holds, which can have every name."""
        draft = next(path for path in folder.iterdir() if path.read_bytes() == NEW["net.resume"])
        data = draft.read_bytes()
        (folder / "other").write_bytes(data)
        os.replace(folder / "other", draft)
        for name in NAMES:
            with pytest.raises(
                bmx.Error, match=r"a write of .*net.resume was killed, and cannot be finished \(.*; rename"
            ):
                finish(str(folder / name))
        finish(str(folder / "something else"))
        assert "net.resume" not in files(folder)

    def test_a_folder_that_cannot_be_written_to(self, folder, monkeypatch):
        def fails(*names):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "replace", fails)
        with pytest.raises(bmx.Error, match=r"net.resume: a write of .* cannot be finished \(Permission denied\)"):
            finish(str(folder / "net.resume"))
        finish(str(folder / "other.params"))

    @pytest.mark.parametrize(
        "text",
        [
            *("", "{", "[]", "{}", "null", "\udcff", '{"identity": 1}'),
            '{"identity": "x", "files": [["../a", 1, 2]], "decides": null, "others": []}',
            '{"identity": "x", "files": [["a", "1", 2]], "decides": null, "others": []}',
            '{"identity": "x", "files": [["a"]], "decides": null, "others": []}',
            '{"identity": "x", "files": [], "decides": "../a", "others": []}',
            '{"identity": "x", "files": [["a", 1, 2]], "decides": "../no/.bmx-unfinished.tmp", "others": []}',
        ],
    )
    def test_one_that_says_nothing_is_removed(self, tmp_path, text):
        (tmp_path / NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
        (tmp_path / "a.1.tmp").write_bytes(b"")
        finish(str(tmp_path / "net.bmx"))
        assert set(files(tmp_path)) == {"a.1.tmp"}


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
