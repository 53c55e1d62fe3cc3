"""Getting weights: caches first, then one locked, resumed, hashed download; every way in which that fails has its own words."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from publisher import Publisher, publisher

from cvtool import download
from cvtool.errors import ModelError

BODY = bytes(range(256)) * 4000  # 1 MB
HASH = hashlib.sha256(BODY).hexdigest()
NAME = f"/models/net-{HASH[:8]}.pth"


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publisher() as state:
        state.files[NAME] = BODY
        yield state


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every cache is the test's own; nothing waits."""
    monkeypatch.setenv("CVTOOL_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    return tmp_path


def facts(server: Publisher, **more: str) -> dict[str, str]:
    return {"url": server.url + NAME, "sha256": HASH[:8], **more}


def test_downloads_once_and_writes_the_full_hash_down(server: Publisher) -> None:
    path = download.fetch(facts(server), name="net")
    assert path.read_bytes() == BODY
    record = json.loads(path.with_name(path.name + ".sha256").read_text())
    assert record["sha256"] == HASH
    assert record["url"] == server.url + NAME
    assert download.fetch(facts(server), name="net") == path
    assert len(server.asked) == 1
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".lock", ".pth", ".sha256"]


def test_tells_progress(server: Publisher) -> None:
    heard: list[tuple[str, int, int | None]] = []
    download.fetch(facts(server), name="net", progress=lambda *told: heard.append(told))
    assert heard[-1] == (NAME.rpartition("/")[2], len(BODY), len(BODY))
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)


def test_progress_set_for_the_whole_process(server: Publisher) -> None:
    heard: list[int] = []
    download.set_progress(lambda name, done, total: heard.append(done))
    try:
        download.fetch(facts(server), name="net")
    finally:
        download.set_progress(None)
    assert heard[-1] == len(BODY)


def test_length_unknown(server: Publisher) -> None:
    server.lengths = False
    heard: list[int | None] = []
    download.fetch(facts(server), name="net", progress=lambda name, done, total: heard.append(total))
    assert set(heard) == {None}


def test_resumes_where_the_connection_broke(server: Publisher) -> None:
    server.cut = [300_000, 100_000]
    assert download.fetch(facts(server), name="net").read_bytes() == BODY
    assert [wanted for _, wanted in server.asked] == [None, "bytes=300000-", "bytes=400000-"]


def test_resumes_what_an_earlier_process_left(server: Publisher) -> None:
    target = download.own_path(facts(server))
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(BODY[:777])
    assert download.fetch(facts(server), name="net").read_bytes() == BODY
    assert server.asked == [(NAME, "bytes=777-")]


def test_server_that_ignores_ranges(server: Publisher) -> None:
    server.ranges, server.cut = False, [300_000]
    assert download.fetch(facts(server), name="net").read_bytes() == BODY
    assert len(server.asked) == 2


def test_whole_already_but_not_renamed(server: Publisher) -> None:
    target = download.own_path(facts(server))
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(BODY)
    assert download.fetch(facts(server), name="net").read_bytes() == BODY  # the server answers 416


def test_longer_than_the_file(server: Publisher) -> None:
    target = download.own_path(facts(server))
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(BODY + b"more")
    assert download.fetch(facts(server), name="net").read_bytes() == BODY


def test_beginning_of_another_file_is_thrown_away(server: Publisher) -> None:
    target = download.own_path(facts(server))
    target.parent.mkdir(parents=True)
    target.with_name(target.name + ".part").write_bytes(b"x" * 1000)
    assert download.fetch(facts(server), name="net").read_bytes() == BODY


def test_gives_up_on_a_line_that_never_moves(server: Publisher) -> None:
    server.cut = [0] * 20
    with pytest.raises(ModelError) as caught:
        download.fetch(facts(server), name="net")
    assert caught.value.exit_code == 4
    assert "ended early" in str(caught.value)
    assert len(server.asked) == download.ATTEMPTS
    assert not download.own_path(facts(server)).exists()


def test_wrong_hash_leaves_nothing(server: Publisher) -> None:
    server.files[NAME] = BODY[:-1] + b"!"
    with pytest.raises(ModelError, match="not the one that was published") as caught:
        download.fetch(facts(server), name="net")
    assert server.url in str(caught.value)
    assert [p.suffix for p in download.own_path(facts(server)).parent.iterdir()] == [".lock"]


def test_server_errors_are_tried_again(server: Publisher) -> None:
    server.status[NAME] = [503, 429]
    assert download.fetch(facts(server), name="net").read_bytes() == BODY


@pytest.mark.parametrize("code", [403, 404, 410])
def test_refusals_are_not(server: Publisher, code: int) -> None:
    server.status[NAME] = [code]
    with pytest.raises(ModelError, match=str(code)) as caught:
        download.fetch(facts(server), name="net")
    assert caught.value.exit_code == 4
    assert str(download.own_path(facts(server))) in str(caught.value)  # where to put it by hand
    assert len(server.asked) == 1


def test_no_network_says_what_to_do() -> None:
    there = {"url": f"http://127.0.0.1:9{NAME}", "sha256": HASH[:8]}  # nobody listens
    with pytest.raises(ModelError, match="no network") as caught:
        download.fetch(there, name="net")
    assert len(caught.value.lines()) <= 3
    assert there["url"] in str(caught.value)
    assert str(download.own_path(there)) in str(caught.value)


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_never_asks(server: Publisher, by_environment: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_environment:
        monkeypatch.setenv("CVTOOL_OFFLINE", "1")
    with pytest.raises(ModelError, match="--offline") as caught:
        download.fetch(facts(server), name="net", offline=not by_environment)
    assert "models pull net" in str(caught.value)
    assert str(download.own_path(facts(server))) in str(caught.value)
    assert server.asked == []


def test_put_by_hand(server: Publisher) -> None:
    target = download.own_path(facts(server))
    target.parent.mkdir(parents=True)
    target.write_bytes(BODY)
    assert download.fetch(facts(server), name="net", offline=True) == target
    assert download.recorded(target)["sha256"] == HASH


def test_damaged_in_the_cache_is_fetched_again(server: Publisher) -> None:
    path = download.fetch(facts(server), name="net")
    path.write_bytes(BODY[:100])
    with pytest.raises(ModelError, match="damaged"):
        download.fetch(facts(server), name="net", offline=True)
    assert download.fetch(facts(server), name="net").read_bytes() == BODY


def test_torch_cache_is_used_and_checked(server: Publisher, home: Path) -> None:
    there = home / "torch" / "hub" / "checkpoints" / NAME.rpartition("/")[2]
    there.parent.mkdir(parents=True)
    there.write_bytes(BODY)
    assert download.fetch(facts(server), name="net") == there
    assert server.asked == []
    there.write_bytes(b"something else")
    assert download.fetch(facts(server), name="net") == download.own_path(facts(server))
    assert there.read_bytes() == b"something else"  # another program's file is not ours to touch


def test_hub_cache_is_used(home: Path) -> None:
    folder = home / "hf" / "hub" / "models--timm--net.tag"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    (folder / "snapshots" / "abc123" / "model.safetensors").write_bytes(BODY)
    there = {"hf": "timm/net.tag", "file": "model.safetensors"}
    assert download.fetch(there, name="timm:net.tag", offline=True).read_bytes() == BODY


def test_hub_layout_is_that_of_huggingface_hub(home: Path) -> None:
    """The library itself finds the file at the same place."""
    hub = pytest.importorskip("huggingface_hub")
    folder = home / "hf" / "hub" / "models--timm--net.tag"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    (folder / "snapshots" / "abc123" / "model.safetensors").write_bytes(BODY)
    theirs = hub.try_to_load_from_cache("timm/net.tag", "model.safetensors", cache_dir=home / "hf" / "hub")
    assert download.cached({"hf": "timm/net.tag", "file": "model.safetensors"}) == [Path(theirs)]


def test_hub_states_the_hash_before_it_redirects(server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "secret")
    there = {"hf": "timm/net", "file": "model.safetensors"}
    server.files["/cdn/blob"] = BODY
    server.redirect["/timm/net/resolve/main/model.safetensors"] = (f"{server.url}/cdn/blob", {"X-Linked-ETag": f'"{"0" * 64}"'})
    with pytest.raises(ModelError, match="not the one that was published"):
        download.fetch(there, name="timm:net")
    server.redirect["/timm/net/resolve/main/model.safetensors"] = (f"{server.url}/cdn/blob", {"X-Linked-ETag": f'"{HASH}"'})
    assert download.fetch(there, name="timm:net").read_bytes() == BODY
    hub, store = server.headers[-2:]
    assert hub["Authorization"] == "Bearer secret"
    assert "Authorization" not in store  # the token stays with the hub


def test_other_names_of_a_file_are_tried(server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files["/some/net/resolve/main/pytorch_model.bin"] = BODY
    there = {"hf": "some/net", "file": "model.safetensors", "otherwise": ["pytorch_model.bin"]}
    assert download.fetch(there, name="net").name == "some--net--pytorch_model.bin"
    assert download.fetch(there, name="net", offline=True).read_bytes() == BODY


def test_mirror_replaces_scheme_and_host(server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVTOOL_MIRROR", server.url + "/pub/")
    server.files["/pub" + NAME + "?x=1"] = BODY
    assert download.fetch({"url": f"https://download.example.org{NAME}?x=1"}, name="net").read_bytes() == BODY
    assert download.mirrored("https://host/a/b") == f"{server.url}/pub/a/b"


def test_two_publishers_one_file_name(server: Publisher) -> None:
    first, second = ({"url": f"{server.url}/{who}/model.pth"} for who in "ab")
    server.files |= {"/a/model.pth": b"first", "/b/model.pth": b"second"}
    assert download.fetch(first, name="a").read_bytes() == b"first"
    assert download.fetch(second, name="b").read_bytes() == b"second"


def test_file_of_an_installed_package() -> None:
    path = download.fetch({"package": "cvtool", "file": "errors.py"}, name="x", offline=True)
    assert path.name == "errors.py"
    with pytest.raises(ModelError, match="package cvtool"):
        download.fetch({"package": "cvtool", "file": "nothing.xml"}, name="x")
    with pytest.raises(ModelError, match="not the ones that were checked"):
        download.fetch({"package": "cvtool", "file": "errors.py", "sha256": "0" * 8}, name="x")


def test_other_schemes_are_refused() -> None:
    with pytest.raises(ModelError, match="no web address"):
        download.fetch({"url": "file:///etc/passwd"}, name="x")


def test_cache_that_cannot_be_made(server: Publisher, home: Path) -> None:
    (home / "own").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="cache folder") as caught:
        download.fetch(facts(server), name="net")
    assert "CVTOOL_CACHE" in str(caught.value)


def test_threads_download_once(server: Publisher) -> None:
    server.delay.clear()
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(download.fetch(facts(server), name="net"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    server.delay.set()
    for thread in threads:
        thread.join(20)
    assert len(paths) == 4
    assert len(server.asked) == 1


def test_processes_download_once(server: Publisher, home: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(Path(download.__file__).parents[1])}
    code = f"from cvtool import download; download.fetch({facts(server)!r}, name='net')"
    running = [subprocess.Popen([sys.executable, "-c", code], env=variables, stderr=subprocess.PIPE) for _ in range(2)]
    for process in running:
        assert process.wait(60) == 0, process.communicate()[1].decode()
    assert len(server.asked) == 1
    assert download.own_path(facts(server)).read_bytes() == BODY


def test_hash_follows_the_file(home: Path) -> None:
    path = home / "a.bin"
    path.write_bytes(b"one")
    assert download.sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert download.sha256(path) == hashlib.sha256(b"other").hexdigest()


def test_large_files_are_hashed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / "large.bin"
    path.write_bytes(b"x" * (9 << 20))
    digest = download.sha256(path)
    monkeypatch.setattr(download, "_hashes", {})
    monkeypatch.setattr(download, "hash_file", lambda _: pytest.fail("read again"))
    assert download.sha256(path) == digest


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CVTOOL_CACHE": "/x/own"}, "/x/own"),
        ({"XDG_CACHE_HOME": "/x/cache"}, "/x/cache/cvtool"),
        ({"HOME": "/home/me"}, "/home/me/.cache/cvtool"),
    ],
)
def test_cache_folder(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CVTOOL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(download.cache_dir()) == expected
