"""`palate playground`: a folder of files for any server, of what is installed; what it does is in playground.mjs."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

import palate
from palate_cli.cli import run
from palate_cli.commands import playground

ROOT = Path(__file__).parents[2]


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a released wheel has of the browser's package: the examples, and a package that was built."""
    web = tmp_path / "web"
    (web / "dist" / "page").mkdir(parents=True)
    for name in ("index.js", "engine-a1.js", "page/page.js"):
        (web / "dist" / name).write_text(f"export {{}};\n//# sourceMappingURL={Path(name).name}.map")
    (web / "dist" / "LICENSES").write_text("MIT")
    (web / "examples").symlink_to(ROOT / "client/web/examples")
    monkeypatch.setattr(playground, "CHECKOUT", tmp_path / "nowhere")
    monkeypatch.setattr(playground, "SHIPPED", web)
    return web


def test_the_folder_has_all_that_the_page_asks_for(
    web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["playground", "--out", str(out)]) == 0
    assert "for any file server" in capsys.readouterr().out
    for name in ("index.html", "playground.js", "playground.css", "shop.css", "icon.svg", "palate/LICENSES"):
        assert (out / name).is_file(), name
    assert {file.name for file in (out / "palate").glob("*.js")} == {"index.js", "engine-a1.js"}
    assert "sourceMappingURL" not in (out / "palate/index.js").read_text(), "no source map is asked for"
    assert palate.starter(out / "films").published.version == palate.starter("films").published.version
    assert run(["playground", "--out", str(out)]) == 2
    assert "must be a new or empty folder" in capsys.readouterr().err


def test_it_is_served_to_this_machine_alone_and_scripts_as_scripts(web: Path, tmp_path: Path) -> None:
    playground.write(tmp_path / "out")
    with playground.served(tmp_path / "out", 0) as server:
        assert server.server_address[0] == "127.0.0.1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        for name, kind in (("", "text/html"), ("palate/index.js", "text/javascript"), ("films/items", "octet-stream")):
            assert kind in httpx.get(f"{address}/{name}").headers["Content-Type"], name
        server.shutdown()


def test_an_install_without_the_browsers_package_says_what_to_do(
    web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (web / "dist" / "index.js").unlink()
    assert run(["playground", "--out", str(tmp_path / "out")]) == 2
    assert "install a released wheel" in capsys.readouterr().err
    (web / "package.json").write_text("{}")
    monkeypatch.setattr(playground, "CHECKOUT", web)
    assert run(["playground", "--out", str(tmp_path / "out")]) == 2
    assert "make playground" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
