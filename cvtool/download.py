"""Getting weight files: caches that are there already, then one locked, resumed, hashed download. Standard library only.

A file is looked for in torch's hub cache and Hugging Face's cache (both as their own libraries lay them out), then in cvtool's
(`$CVTOOL_CACHE`, else `$XDG_CACHE_HOME/cvtool`, else `~/.cache/cvtool`; files below `weights/`), and is downloaded to the last.
`CVTOOL_MIRROR` replaces the `scheme://host` of every publisher's address; `CVTOOL_OFFLINE=1` forbids the network like `--offline`.
Beside a downloaded file stands `<file>.sha256`, a JSON object with its full hash, against which `cvtool models verify` checks again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cvtool import __version__
from cvtool.errors import ModelError

Progress = Callable[[str, int, "int | None"], None]  # name of the file, bytes so far, bytes in all (None: the server does not say)

ATTEMPTS = 3
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 20
_REMEMBER_ABOVE = 8 << 20  # bytes; hashing less takes no time worth a file

_progress: Progress | None = None


def set_progress(callback: Progress | None) -> None:
    """Who is told about downloads that happen anywhere in this process (the command line shows a bar)."""
    global _progress
    _progress = callback


# ---- where things lie ----------------------------------------------------------------------------------------------


def cache_dir() -> Path:
    """cvtool's own cache folder; it need not exist yet."""
    if own := os.environ.get("CVTOOL_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "cvtool"


def torch_dir() -> Path:
    """Where `torch.hub.load_state_dict_from_url` keeps its files."""
    base = os.environ.get("TORCH_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch")
    return Path(base).expanduser() / "hub" / "checkpoints"


def hub_dir() -> Path:
    """Where huggingface_hub keeps its repositories."""
    if own := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("HF_HOME") or str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(base).expanduser() / "hub"


def is_offline(offline: bool = False) -> bool:
    """`--offline`, or CVTOOL_OFFLINE set to anything but 0, false, no or nothing."""
    return offline or os.environ.get("CVTOOL_OFFLINE", "").lower() not in ("", "0", "false", "no")


def address(facts: Mapping[str, Any]) -> str | None:
    """The publisher's address of a weight file, or None for one that comes with an installed package."""
    if url := facts.get("url"):
        return str(url)
    if repository := facts.get("hf"):
        return f"{_hub()}/{repository}/resolve/{facts.get('revision', 'main')}/{facts.get('file', 'model.safetensors')}"
    return None


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def mirrored(url: str) -> str:
    """`url`, or the same path on CVTOOL_MIRROR."""
    mirror = os.environ.get("CVTOOL_MIRROR")
    if not mirror:
        return url
    return mirror.rstrip("/") + re.sub(r"^[^/]*//[^/]*", "", url)


def own_path(facts: Mapping[str, Any]) -> Path:
    """The file's place in cvtool's cache. A name without a hash in it gets one of its address, so that two publishers' files never meet."""
    url = address(facts) or ""
    name = f"{facts['hf']}/{facts.get('file', 'model.safetensors')}".replace("/", "--") if facts.get("hf") else url.rpartition("/")[2]
    if not re.search(r"-[0-9a-f]{8,}\.", name) and not facts.get("hf"):
        name = hashlib.sha1(url.encode()).hexdigest()[:8] + "-" + name
    return cache_dir() / "weights" / name


def cached(facts: Mapping[str, Any]) -> list[Path]:
    """Every place where the file lies already, best first; hashes are not looked at."""
    found: list[Path] = []
    if package := facts.get("package"):  # a file that another installed package carries
        spec = importlib.util.find_spec(package)
        found += [Path(folder) / facts["file"] for folder in (spec.submodule_search_locations or [])] if spec else []
    elif repository := facts.get("hf"):
        folder = hub_dir() / ("models--" + repository.replace("/", "--"))
        with suppress(OSError):
            commit = (folder / "refs" / facts.get("revision", "main")).read_text().strip()
            found.append(folder / "snapshots" / commit / facts.get("file", "model.safetensors"))
        found.append(own_path(facts))
    elif url := facts.get("url"):
        found += [torch_dir() / url.rpartition("/")[2], own_path(facts)]
    return [path for path in found if path.is_file()]


# ---- hashes --------------------------------------------------------------------------------------------------------


def record_path(path: Path) -> Path:
    """Where the hash of `path` is kept: beside it in cvtool's own cache, else below `hashes/`, since other folders are not ours to write in."""
    path, own = path.absolute(), cache_dir().absolute()
    if own / "weights" in path.parents:
        return path.with_name(path.name + ".sha256")
    return own / "hashes" / f"{hashlib.sha1(str(path).encode()).hexdigest()[:16]}-{path.name}.sha256"


def recorded(path: Path) -> dict[str, Any] | None:
    """What was written down about `path`: sha256, size, mtime_ns, and url for a download; None for nothing."""
    try:
        record = json.loads(record_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "sha256" in record else None


def hash_file(path: Path) -> str:
    """The sha256 of the bytes on the disk, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_hashes: dict[tuple[str, int, int], str] = {}


def sha256(path: Path) -> str:
    """The file's sha256, remembered for as long as its size and time of change stay."""
    status = path.stat()
    key = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    if key not in _hashes:
        record = recorded(path)
        if record and (record.get("size"), record.get("mtime_ns")) == key[1:]:
            _hashes[key] = record["sha256"]
        else:
            _hashes[key] = hash_file(path)
            ours = record_path(path).parent == path.absolute().parent
            if (record is None) if ours else status.st_size >= _REMEMBER_ABOVE:
                with suppress(OSError):  # a cache that cannot be written costs time, nothing else
                    _write_record(path, _hashes[key])
    return _hashes[key]


def _write_record(path: Path, digest: str, **more: Any) -> None:
    target, status = record_path(path), path.stat()
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(json.dumps({"sha256": digest, "size": status.st_size, "mtime_ns": status.st_mtime_ns, **more}) + "\n", encoding="utf-8")
    draft.replace(target)


def is_intact(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the file has the hash that its publisher states, and the one written down when it came (where either is known)."""
    digest, record = sha256(path), recorded(path)
    return digest.startswith(facts.get("sha256") or "") and (record is None or record["sha256"] == digest)


# ---- fetching ------------------------------------------------------------------------------------------------------


class Absent(ModelError):
    """The server has no such file."""


def fetch(facts: Mapping[str, Any], *, name: str, offline: bool = False, progress: Progress | None = None) -> Path:
    """The file of one set of published weights, from a cache or, unless `offline`, from its publisher.

    facts: `url`, or `hf` (repository) and `file`, or `package` and `file`; `otherwise`: other names of the file, tried in turn; `sha256`: the
    hash or the prefix that the publisher states. name: what messages call it.
    Raises ModelError (exit code 4) where it cannot be had or is not what it should be.
    """
    choices = [facts, *({**facts, "file": other} for other in facts.get("otherwise", ()))]
    there = [path for choice in choices for path in cached(choice)]
    for path in there:
        if is_intact(path, facts):
            return path
    url, target = address(facts), own_path(facts)
    if url is None:
        what = f"the weights of {name} come with the package {facts.get('package')}, "
        what += "and are not the ones that were checked" if there else "which is missing or lacks them"
        raise ModelError(what, where=there[0] if there else facts.get("file"), hint=f"pip install --force-reinstall {facts.get('package')}")
    if is_offline(offline) or (facts.get("hf") and os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")):
        state = "are damaged" if there else "are not on this machine"
        hint = f"run `cvtool models pull {name}` with a network, or put {url} at {target}"
        raise ModelError(f"the weights of {name} {state}, and --offline forbids the network", where=there[0] if there else None, hint=hint)
    for choice in choices:
        url, target = address(choice) or "", own_path(choice)
        if target in there:  # damaged
            target.unlink()
            record_path(target).unlink(missing_ok=True)
        try:
            return download(url, target, sha256=facts.get("sha256"), progress=progress, name=name)
        except Absent:
            if choice is choices[-1]:
                raise
    raise AssertionError


def download(url: str, dest: Path, *, sha256: str | None = None, progress: Progress | None = None, name: str | None = None) -> Path:
    """Fetch `url` to `dest`: one process at a time, resumed where an earlier try stopped, hashed, and in place only when whole.

    sha256: the hash, or its first digits; without it, the hash that a hub states in its answer is used. A file with another hash is
    removed. Raises ModelError (exit code 4) for no network, an answer other than the file, and a wrong hash.
    """
    progress = progress or _progress
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot make the cache folder: {error.strerror}", where=dest.parent, hint="CVTOOL_CACHE names another folder") from error
    part = dest.with_name(dest.name + ".part")
    with _locked(dest.with_name(dest.name + ".lock")):
        if dest.is_file():  # another process was faster
            return dest
        for again in (True, False):
            resumed = part.exists()
            stated = _transfer(url, part, dest, name or dest.name, progress)
            digest, expected = hash_file(part), sha256 or stated or ""
            if digest.startswith(expected.lower()):
                break
            part.unlink()
            if not (resumed and again):  # what was resumed may have been another file's beginning: once more from the start
                what = f"the file downloaded for {name or dest.name} is not the one that was published (sha256 {digest[:16]}, not {expected[:16]})"
                raise ModelError(what, where=mirrored(url), hint="it was removed; try again, and if it stays so, do not trust the server or proxy")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(dest)
        _write_record(dest, digest, url=url)
    return dest


def _redirect() -> Any:
    """A handler that follows as usual, and remembers the hash that a hub states before it sends the client elsewhere."""
    from urllib.request import HTTPRedirectHandler

    class Redirect(HTTPRedirectHandler):
        stated: str | None = None

        def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
            self.stated = self.stated or _stated(headers)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return Redirect()


def _stated(headers: Any) -> str | None:
    """A sha256 among the answer's headers. A hub's tag for large files is one; other tags mean something else."""
    tag = (headers.get("X-Linked-ETag") or "").strip('"')
    return tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None


def _transfer(url: str, part: Path, dest: Path, name: str, progress: Progress | None) -> str | None:
    """Bring `part` to its full length; returns the hash that the server states, if any."""
    import http.client
    import urllib.error
    import urllib.request

    address = mirrored(url)
    by_hand = f"without a network: put {url} at {dest}"
    if not address.startswith(("https://", "http://")):
        raise ModelError(f"the weights of {name} have an address that is no web address", where=address)
    failures, problem = 0, "the connection ended early"
    while failures < ATTEMPTS:
        redirect, start = _redirect(), _size(part)
        request = urllib.request.Request(address, headers={"User-Agent": f"cvtool/{__version__}", "Accept-Encoding": "identity"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        if (token := os.environ.get("HF_TOKEN")) and address.startswith(_hub() + "/"):
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.build_opener(redirect).open(request, timeout=TIMEOUT) as response:
                stated = redirect.stated or _stated(response.headers)
                if _receive(response, part, start, dest.name, progress):
                    return stated
                problem = f"the connection ended early, after {_size(part):,} bytes"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and start:
                if (error.headers.get("Content-Range") or "").rpartition("/")[2] == str(start):
                    return redirect.stated  # it had been whole all along
                part.unlink()
            problem = f"the server answers {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 416, 429):
                kind = Absent if error.code == 404 else ModelError
                raise kind(f"cannot download {name}: {problem}", where=address, hint=by_hand) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            problem = "no network, or the server is not there" + f" ({getattr(reason, 'strerror', None) or reason or type(error).__name__})"
        failures = 0 if _size(part) > start else failures + 1  # a line that breaks but moves may break as often as it likes
        time.sleep(0.2 * failures)
    raise ModelError(f"cannot download {name}: {problem}", where=address, hint=by_hand)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(response: Any, part: Path, start: int, name: str, progress: Progress | None) -> bool:
    """Write the body behind the `start` bytes that are there, or anew where the server sends the whole; False if it ended early."""
    from http.client import HTTPException

    length = response.headers.get("Content-Length")
    if response.status == 206 and not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
        part.unlink(missing_ok=True)
        return False
    if response.status != 206:
        start = 0
    total = start + int(length) if length and length.isdigit() else None
    done = start
    with part.open("ab" if start else "wb") as file:
        while True:
            try:
                chunk = response.read(CHUNK)
            except OSError:  # cut off, or silent for too long
                return False
            except HTTPException as error:
                file.write(getattr(error, "partial", b""))
                return False
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            if progress:
                progress(name, done, total)
    return total is None or done == total


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. The lock dies with its holder; without flock (Windows) a lock file older than ten minutes counts as dead."""
    try:
        import fcntl
    except ImportError:
        while True:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > 600:
                        path.unlink()
                time.sleep(0.2)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
