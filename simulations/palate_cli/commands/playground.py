"""`palate playground`: a page that recommends films in a browser, as a folder of files or served on this machine."""

from __future__ import annotations

import shutil
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import typer

from palate_core.errors import InputError

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).parents[3] / "client" / "web"
SHIPPED = Path(__file__).parents[1] / "web"
"""Where `dist` and the examples of the browser's package are: in a checkout, and in what was installed."""


def playground(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the folder, for any file server, and serve nothing.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Of this machine; 0: a free one.")] = 8000,
) -> None:
    """Pick films in your browser and watch the list change, until Ctrl-C. Nothing leaves the page."""
    if out is not None:
        write(out)
        typer.echo(f"playground: {_size(out) / 1000:,.0f} kB in {out}, for any file server")
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        with served(Path(folder), port) as server:
            typer.echo(f"playground: http://{HOST}:{server.server_address[1]}/ until Ctrl-C")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                typer.echo("ended")


def served(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder's files, for this machine alone.

    Raises:
        InputError: the port is taken.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Files, directory=str(folder)))
    except OSError as error:
        raise InputError(f"`--port` must be free, got {port}: {error.strerror}") from None


def write(out: Path) -> None:
    """Write the page, the browser's package and the starter model of films into a new folder.

    Raises:
        InputError: the folder has something in it, or this install has no built package of the browser.
    """
    from palate.starter import starter

    web = CHECKOUT if (CHECKOUT / "package.json").is_file() else SHIPPED
    if not (web / "dist" / "index.js").is_file():
        how = "make playground" if web == CHECKOUT else "install a released wheel, which has it"
        raise InputError(f"`palate playground` needs the built @palate/web, got none at {web / 'dist'}: {how}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"`--out` must be a new or empty folder, got {out}")
    examples = web / "examples"
    shutil.copytree(examples / "playground", out, dirs_exist_ok=True)
    for name in ("shop.css", "icon.svg"):
        shutil.copyfile(examples / "shop" / name, out / name)
    shutil.copytree(starter("films").folder, out / "films")
    (out / "palate").mkdir()
    for file in sorted(web.glob("dist/*.js")):
        text = file.read_text(encoding="utf-8").replace(f"//# sourceMappingURL={file.name}.map", "")
        (out / "palate" / file.name).write_text(text, encoding="utf-8")
    shutil.copyfile(web / "dist" / "LICENSES", out / "palate" / "LICENSES")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


class _Files(SimpleHTTPRequestHandler):
    """The folder's files, in silence."""

    def guess_type(self, path: Any) -> str:
        """Scripts are scripts, whatever the machine's registry says."""
        return "text/javascript" if str(path).endswith(".js") else super().guess_type(path)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address was said."""
