"""The README's moving picture, docs/img/shop.gif: the sample shop, whose list changes with each click.

    python docs/moving.py

Chromium takes the frames of `client/web/examples/shop` as `client/web/test/whole/frames.mjs` clicks; it needs what
`make web` needs, `npm run build` in client/web, and Pillow.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "img" / "shop.gif"
WIDTH, COLOURS = 720, 48
SHOWN = 1_600
"""Milliseconds of a frame; the last one stays twice as long."""


def frame(taken: Image.Image, height: int) -> Image.Image:
    """A picture as a frame of that height in the browser's pixels; below it goes on as it ends."""
    whole = Image.new("RGB", (taken.width, height), taken.getpixel((0, taken.height - 1)))
    whole.paste(taken)
    small = whole.resize((WIDTH, WIDTH * height // taken.width), Image.Resampling.LANCZOS)
    return small.quantize(COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    """Take the frames, and write the picture."""
    with TemporaryDirectory() as folder:
        clicks = ["node", "test/whole/frames.mjs", folder]
        subprocess.run(clicks, cwd=ROOT / "client" / "web", check=True)  # noqa: S603 # a script of this repository
        taken = [Image.open(path).convert("RGB") for path in sorted(Path(folder).glob("*.png"))]
    height = max(each.height for each in taken)
    frames = [frame(each, height) for each in taken]
    lasts = [SHOWN] * (len(frames) - 1) + [2 * SHOWN]
    frames[0].save(PICTURE, save_all=True, append_images=frames[1:], duration=lasts, loop=0, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {len(frames)} frames, {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
