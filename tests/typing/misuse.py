"""An app's mistakes: every line that ends in `# error: CODE` must be one, and no other."""

from __future__ import annotations

import palate

palate.open("here")  # error: call-arg
palate.open("here", app="shelf", key="secret")  # error: arg-type
device = palate.open("here", app="shelf")
device.track("stare", "book-7")  # error: arg-type
device.track("view", 7)  # error: arg-type
device.track("view", "book-7", 3)  # error: call-arg
device.track("view", "book-7", source="radio")  # error: arg-type
device.track_many(["book-7"])  # error: list-item
device.consent.grant("sell")  # error: arg-type
device.consent.grant("train", "2")  # error: call-arg
device.upload()  # error: attr-defined
device.recommend(10, True)  # error: call-arg
device.recommend(domain=3)  # error: arg-type
device.explain("book-7", "books")  # error: call-arg
device.feedback([], {"book-7": "stare"})  # error: dict-item
device.hide(7)  # error: arg-type
palate.Service("ab" * 32, "readers")  # error: call-arg
palate.Service(public_key="ab" * 32, population="readers", epsilon="8")  # error: arg-type
palate.Floors(allow_everything=True)  # error: call-arg
device.contribute("a plan", b"a model")  # error: arg-type
device.update_model(b"model")  # error: arg-type
print(device.model().items)  # error: union-attr
device.join(b"", b"", ["key"], number=7)  # error: arg-type
device.privacy_report()["sent"]  # error: index
palate.Limits(max_events="many")  # error: arg-type
device.identity = "another"  # error: misc
