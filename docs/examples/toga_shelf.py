"""A desktop app with BeeWare's Toga: its handlers are coroutines, and threads wait for the device in their place.

pip install toga; python docs/examples/toga_shelf.py
"""

from __future__ import annotations

from asyncio import to_thread
from typing import Any

import toga

import palate


class Shelf(toga.App):
    """A book, two buttons, and the user's own page."""

    def startup(self) -> None:
        """Build the window; the device is opened by `on_running`, in the loop."""
        self.book = toga.Label("")
        self.said = toga.Label("")
        self.page = toga.WebView(style=toga.style.Pack(flex=1))
        self.buttons = [
            toga.Button("I like it", on_press=self.like),
            toga.Button("What do you know about me?", on_press=self.about_me),
        ]
        column = toga.style.Pack(direction="column")
        self.main_window = toga.MainWindow(title="Shelf")
        self.main_window.content = toga.Box(children=[self.book, *self.buttons, self.said, self.page], style=column)
        self.main_window.show()

    async def on_running(self, **_: Any) -> None:
        """Open the device, and ask its first question."""
        key_file = self.paths.data / "shelf.key"  # or leave `key` out, and the system's keyring keeps one
        key_file.parent.mkdir(parents=True, exist_ok=True)
        if not key_file.exists():
            key_file.write_bytes(palate.new_key())
        sample = palate.sample()
        self.device = await to_thread(
            palate.open, self.paths.data / "palate", app="shelf", key=key_file.read_bytes(), service=sample.service
        )
        await to_thread(self.device.consent.grant, "store")  # a real app asks first
        await to_thread(self.device.update_model, sample.folder)
        await self.next_book()

    async def next_book(self) -> None:
        """Show what is recommended now, and why."""
        (shown,) = await to_thread(self.device.recommend, 1)
        self.book.text = shown.item
        self.said.text = shown.told(None)

    async def like(self, _: toga.Widget) -> None:
        """The user likes what is shown."""
        await to_thread(self.device.more_of, self.book.text)
        await self.next_book()

    async def about_me(self, _: toga.Widget) -> None:
        """The user's own page, in the app's web view."""
        self.page.set_content("about:palate", await to_thread(self.device.page))

    async def on_exit(self, **_: Any) -> bool:
        """Close the device; the app may exit."""
        await to_thread(self.device.close)
        return True


def main() -> Shelf:
    """The app, for `briefcase` and for the line above."""
    return Shelf("Shelf", "org.example.shelf")


if __name__ == "__main__":
    main().main_loop()
