"""histories.json: files as services hand them out, what a device reads in them, and what it would store.

Each file is made by hand in the shape that its source shows; nobody's history is in it.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from palate_client.device import open_device
from palate_client.history.files import members_of
from palate_client.history.preview import preview_history
from palate_client.history.rows import HistoryReading
from palate_common.models.item_table import ItemFacts, ItemTable
from palate_core.errors import InputError

NOW = 1_790_000_000
MBID = "8f3471b5-7e6a-48da-86a9-c1c07a0f47ae"
CATALOGUE = (
    ItemFacts("f1", "The Dark Knight", 2008, ids={"imdb": "tt0468569", "tmdb": "155"}),
    ItemFacts("f2", "Tenet", 2020),
    ItemFacts("f3", "Heat", 1995, ids={"imdb": "tt0113277"}),
    ItemFacts("f4", "Heat", 1986),
    ItemFacts("f5", "Fantômas", 1964, ("Fantomas 70",)),
    ItemFacts("f6", "Dark", 2017),
    ItemFacts("f7", "Alien", 1979, ids={"imdb": "tt0078748"}),
    ItemFacts("f8", "Mission: Impossible", 1996),
    ItemFacts("b1", "The Hitchhiker's Guide to the Galaxy", 1979, ids={"isbn": "0345391802"}),
    ItemFacts("b2", "Dune", 1965, ids={"isbn": "9780441013593"}),
    ItemFacts("s1", "Sigur Rós - Svefn-g-englar", ids={"spotify": "0cQbJU3aWfsFbhGCWjJcnl", "musicbrainz": MBID}),
    ItemFacts("s2", "Bloc Party - Positive Tension"),
    ItemFacts("v1", "Another Tom Scott Video", ids={"youtube": "2uXS20iWve4"}),
    ItemFacts("p1", "USB-C Cable", ids={"asin": "B0EXAMPLE1"}),
)

ACTIVITY = (
    "Profile Name,Start Time,Duration,Attributes,Title,Supplemental Video Type,Device Type,Bookmark,Latest Bookmark,"
    "Country\n"
)
IMDB = (
    "Const,Your Rating,Date Rated,Title,Original Title,URL,Title Type,IMDb Rating,Runtime (mins),Year,Genres,Num Votes,"
    "Release Date,Directors\n"
)
GOODREADS = (
    "Book Id,Title,Author,Author l-f,Additional Authors,ISBN,ISBN13,My Rating,Average Rating,Publisher,Binding,"
    "Number of Pages,Year Published,Original Publication Year,Date Read,Date Added,Bookshelves,"
    "Bookshelves with positions,Exclusive Shelf,My Review,Spoiler,Private Notes,Read Count,Owned Copies\n"
)
AMAZON = (
    "Website,Order ID,Order Date,Purchase Order Number,Currency,Unit Price,Unit Price Tax,Shipping Charge,"
    "Total Discounts,Total Owed,Shipment Item Subtotal,Shipment Item Subtotal Tax,ASIN,Product Condition,Quantity,"
    "Payment Instrument Type,Order Status,Shipment Status,Ship Date,Shipping Option,Shipping Address,Billing Address,"
    "Carrier Name & Tracking Number,Product Name,Gift Message,Gift Sender Name,Gift Recipient Contact Details\n"
)
WATCHED = (
    "Date,Name,Year,Letterboxd URI\n2023-01-10,Heat,1995,https://boxd.it/a\n2023-01-10,Dune,1984,https://boxd.it/b\n"
)


def histories() -> dict[str, Any]:
    """The cases."""
    return {"now": NOW, "catalogue": [_plain(each) for each in CATALOGUE], "cases": [_case(*each) for each in _files()]}


def _files() -> list[tuple[Any, ...]]:
    """What it is, where its shape is from, its name, its content, and what the person has said."""
    return [
        (
            "netflix, an account in Germany", "leepeuker/movary#259", "NetflixViewingHistory.csv",
            'Title,Date\n"Tenet","24.01.23"\n"Dark: Staffel 1: Geheimnisse","03.01.23"\n'
            '"Mission: Impossible","02.01.23"\n',
        ),
        (
            "netflix, days first", "jensb89/Netflix-to-Trakt-Import#44", "NetflixViewingHistory (1).csv",
            "Title,Date\r\n\"Tenet\",\"24/12/2022\"\r\n\"Heat\",\"05/04/2022\"\r\n",
        ),
        (
            "netflix, months first", "IgnisDa/ryot#1413", "history.csv",
            'Title,Date\n"Tenet","6/19/25"\n"Heat","6/8/25"\n',
        ),
        (
            "netflix, year first", "jensb89/Netflix-to-Trakt-Import#44", "NetflixViewingHistory.csv",
            "Title,Date\nTenet,2021-12-15\n",
        ),
        (
            "netflix, Korea", "Unicode CLDR, short dates of ko", "NetflixViewingHistory.csv",
            "Title,Date\nTenet,23. 1. 24.\nHeat,22. 12. 31.\n",
        ),
        (
            "netflix, dates that can be read in two ways", "jensb89/Netflix-to-Trakt-Import#8",
            "NetflixViewingHistory.csv", 'Title,Date\n"Tenet","4/5/25"\n"Heat","3/2/25"\n',
        ),
        (
            "netflix, the same with the person's answer", "jensb89/Netflix-to-Trakt-Import#8",
            "NetflixViewingHistory.csv", 'Title,Date\n"Tenet","4/5/25"\n"Heat","3/2/25"\n', {"dates": "day first"},
        ),
        (
            "netflix, an answer that the dates contradict", "IgnisDa/ryot#1413", "history.csv",
            'Title,Date\n"Tenet","6/19/25"\n', {"dates": "day first"},
        ),
        (
            "netflix, after a spreadsheet saved it", "leepeuker/movary#259", "NetflixViewingHistory.csv",
            "Title,Date\nTenet,4/12/2022\nHeat,24/12/2022\nDark,05/11/2022\n",
        ),
        (
            "netflix, UTF-16 with tabs, as a spreadsheet exports", "leepeuker/movary#259", "Unicode text.csv",
            "Title\tDate\r\nFant\u00f4mas\t24.01.23\r\n".encode("utf-16"),
        ),
        (
            "netflix, semicolons and an old encoding", "leepeuker/movary#259", "NetflixViewingHistory.csv",
            "Title;Date\r\nFant\u00f4mas;24.01.23\r\n".encode("cp1252"),
        ),
        (
            "netflix's data request, a household", "jensb89/Netflix-to-Trakt-Import#30", "ViewingActivity.csv",
            ACTIVITY
            + "Anna,2022-10-17 23:42:00,00:43:26,,DAHMER: Monster: The Jeffrey Dahmer Story: The Good Boy Box "
            "(Episode 4),,Netflix Windows App - Cadmium Windows Mobile,00:41:19,Not latest view,DE (Germany)\n"
            "Ben,2022-10-18 20:00:00,01:30:00,,Tenet,,Chrome PC (Cadmium),01:30:00,01:30:00,DE (Germany)\n",
        ),
        (
            "netflix's data request, one of them", "jensb89/Netflix-to-Trakt-Import#30", "ViewingActivity.csv",
            ACTIVITY
            + "Anna,2022-10-17 23:42:00,00:43:26,,Dark: Staffel 2: Anfaenge und Enden (Episode 1),,TV,00:41:19,"
            "Not latest view,DE (Germany)\n"
            "Anna,2022-10-17 23:19:14,00:01:36,,Heat,TRAILER,TV,00:01:36,00:01:36,DE (Germany)\n"
            "Anna,2022-10-17 23:10:00,00:00:41,,Tenet,,TV,00:00:41,00:00:41,DE (Germany)\n"
            "Ben,2022-10-18 20:00:00,01:30:00,,Tenet,,TV,01:30:00,01:30:00,DE (Germany)\n",
            {"profile": "Anna"},
        ),
        (
            "netflix's data request as a zip file, with verdicts", "IgnisDa/ryot#1413", "netflix-report.zip",
            {
                "CONTENT_INTERACTION/ViewingActivity.csv": ACTIVITY
                + "Name,2025-06-18 19:13:22,02:20:00,,The Dark Knight,,TV,02:20:00,02:20:00,US (United States)\n",
                "CONTENT_INTERACTION/Ratings.csv": "Profile Name,Title Name,Rating Type,Star Value,Thumbs Value,"
                "Device Model,Event Utc Ts,Region View Date\n"
                "Name,The Crimson Clockwork,thumb,,2,Smart TV,2025-06-19 19:13:22,\n"
                "Name,The Dark Knight,star,5,2,HTML 5,2025-06-19 19:13:22,\n",
                "Cover_sheet.pdf": "%PDF",
            },
        ),
        (
            "trakt, several files, episodes and ratings", "cenodude/CrossWatch#363, bbeesley/trakt-to-letterboxd#765",
            "trakt-export.zip",
            {
                "watched/watched-history-1.json": [
                    {
                        "id": 587475858, "watched_at": "2014-04-05T15:27:00.000Z", "action": "scrobble",
                        "type": "movie",
                        "movie": {
                            "ids": {
                                "imdb": "tt0468569", "plex": {"guid": "5d7768247e9a3c0020c6a8f3"},
                                "slug": "the-dark-knight-2008", "tmdb": 155, "trakt": 120,
                            },
                            "year": 2008, "title": "The Dark Knight",
                        },
                    },
                    {
                        "id": 1, "watched_at": "2026-09-01T21:00:00.000Z", "action": "watch", "type": "episode",
                        "show": {"title": "Dark", "year": 2017, "ids": {"trakt": 115, "imdb": None, "tmdb": None}},
                        "episode": {"season": 1, "number": 1, "ids": {}},
                    },
                ],
                "watched/watched-history-2.json": [
                    {
                        "id": 2, "watched_at": "2020-03-01T20:00:00.000Z", "action": "checkin", "type": "movie",
                        "movie": {"title": "Heat", "year": 1995, "ids": {"tmdb": 949}},
                    },
                ],
                "watched/watched-movies.json": [
                    {
                        "plays": 2, "last_watched_at": "2014-04-05T15:27:00.000Z",
                        "movie": {"title": "The Dark Knight", "year": 2008, "ids": {"imdb": "tt0468569"}},
                    },
                ],
                "ratings/ratings-movies.json": [
                    {
                        "rated_at": "2014-09-01T09:10:11.000Z", "rating": 10, "type": "movie",
                        "movie": {"title": "TRON: Legacy", "year": 2010, "ids": {"trakt": 1, "imdb": "tt1104001"}},
                    },
                ],
                "lists/lists-watchlist.json": [
                    {"listed_at": "2026-01-01T00:00:00.000Z", "type": "movie", "movie": {"title": "Alien"}},
                ],
            },
        ),
        (
            "letterboxd, files that overlap, and a watchlist", "FuzzyGrim/Yamtrack's and others' importers' files",
            "letterboxd-anna-2026-09-11.zip",
            {
                "diary.csv": "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date\n"
                '2023-01-15,Heat,1995,https://boxd.it/movie1,4.5,No,"favorite, prison-drama",2022-12-20\n'
                "2023-02-10,Tenet,2020,https://boxd.it/movie2,,,,2023-02-09\n",
                "ratings.csv": "Date,Name,Year,Letterboxd URI,Rating\n2023-01-15,Heat,1995,https://boxd.it/a,4.5\n"
                "2019-05-05,Alien,1979,https://boxd.it/d,0.5\n",
                "watched.csv": WATCHED,
                "watchlist.csv": WATCHED.replace("Heat", "Fantomas"),
                "likes/films.csv": WATCHED,
                "deleted/diary.csv": "Date,Name,Year,Letterboxd URI,Rating,Rewatch,Tags,Watched Date\n"
                "2023-02-10,Alien,1979,https://boxd.it/movie2,,,,2023-02-09\n",
            },
        ),
        ("letterboxd, one file of it", "the same", "watched (1).csv", WATCHED),
        ("letterboxd, a watchlist alone", "the same", "watchlist.csv", WATCHED),
        (
            "imdb, types in the user's language", "sbondCo/Watcharr#870, IgnisDa/ryot#796", "ratings.csv",
            "\ufeff" + IMDB
            + 'tt0078748,9,2024-03-15,Alien,Alien,https://www.imdb.com/title/tt0078748/,Film,8.5,117,1979,"Horror, '
            'Sci-Fi",1000000,1979-05-25,Ridley Scott\n'
            "tt9999999,1,2024-03-15,Heat,Heat,https://www.imdb.com/title/tt9999999/,Film,5,90,1995,,10,,\n"
            'tt1111111,7,2024-03-15,An "unquoted, title,,,Film,5,90,1995,,10,,\n'
            "tt0903747,,,Breaking Bad,Breaking Bad,https://www.imdb.com/title/tt0903747/,Serie,9.5,49,2008,,2,,\n",
        ),
        (
            "goodreads, from a Kindle, and ISBNs for Excel", "booksforjelu/jelu#81, bookwyrm-social/bookwyrm#1262",
            "goodreads_library_export.csv",
            GOODREADS
            + '1,"The Hitchhiker\'s Guide to the Galaxy (The Hitchhiker\'s Guide to the Galaxy, #1)",Douglas Adams,'
            '"Adams, Douglas",,"=""0330258648""","=""9780330258647""",5,4.23,Pan,Paperback,193,1992,1979,2021/04/14,'
            "2021/01/03,,,read,Great!,,,1,0\n"
            '44767458,"Dune (Dune, #1)",Frank Herbert,"Herbert, Frank",,="0441013593",="9780441013593",0,4.27,Ace,'
            'Paperback,658,2019,1965,,2024/01/03,"sci-fi","sci-fi (#1)",read,,,,1,0\n'
            '2,"Piranesi",Susanna Clarke,"Clarke, Susanna",,"=""""","=""""",4,4.24,Bloomsbury,Kindle Edition,272,2020,'
            "2020,2021/04/31,2021/01/01,,,read,,,,1,0\n"
            '3,"Heat",Nobody,"Nobody, A",,"=""""","=""""",0,3.0,,,100,1995,1995,,2024/12/01,to-read,to-read (#3),'
            "to-read,,,,0,0\n",
        ),
        (
            "spotify, doubles, skips and episodes", "ajwells256/spotify-history-reader, krateng/maloja#104",
            "my_spotify_data.zip",
            {
                "Spotify Extended Streaming History/Streaming_History_Audio_2019-2024_0.json": [
                    _play("2024-01-05T20:11:03Z", 183000, "Svefn-g-englar", "Sigur Rós", "0cQbJU3aWfsFbhGCWjJcnl"),
                    _play("2024-01-05T20:11:03Z", 182000, "Svefn-g-englar", "Sigur Rós", "0cQbJU3aWfsFbhGCWjJcnl"),
                    _play("2024-01-05T20:12:00Z", 8778, "Svefn-g-englar", "Sigur Rós", "0cQbJU3aWfsFbhGCWjJcnl"),
                    _play("2024-01-05T20:21:44Z", 240000, "Untitled 3", "Sigur Rós", "1AbCdEfGhIjKlMnOpQrStU"),
                    _play("2024-01-06T08:00:00Z", 1_800_000, None, None, None),
                ],
                "Spotify Extended Streaming History/Streaming_History_Video_2019-2024.json": [
                    _play("2024-02-05T20:11:03Z", 183000, "Svefn-g-englar", "Sigur Rós", "0cQbJU3aWfsFbhGCWjJcnl"),
                ],
                "Spotify Extended Streaming History/ReadMeFirst_ExtendedStreamingHistory.pdf": "%PDF",
            },
        ),
        (
            "youtube, in Chinese, with an advertisement and a deleted video", "FreeTubeApp/FreeTube#6561",
            "takeout-20240101.zip",
            {
                "Takeout/YouTube 和 YouTube Music/历史记录/观看记录.json": [
                    {
                        "header": "YouTube", "title": "观看了 Basically Another Tom Scott Video",
                        "titleUrl": "https://www.youtube.com/watch?v=2uXS20iWve4",
                        "subtitles": [{"name": "MattColbo", "url": "https://www.youtube.com/channel/UCD"}],
                        "time": "2021-12-03T15:02:58.289Z", "products": ["YouTube"],
                        "activityControls": ["YouTube watch history"],
                    },
                    {
                        "header": "YouTube", "title": "观看了 https://www.youtube.com/watch?v=2uXS20iWve4",
                        "titleUrl": "https://www.youtube.com/watch?v=2uXS20iWve4", "time": "2021-12-04T15:02:58.289Z",
                        "products": ["YouTube"], "details": [{"name": "来自 Google 广告"}],
                    },
                    {"header": "YouTube", "title": "观看了已删除的视频", "time": "2021-12-05T15:02:58.289Z"},
                ],
            },
        ),
        (
            "youtube, as a page", "FreeTubeApp/FreeTube#6561", "watch-history.html",
            "<html><body>Watched <a href='https://www.youtube.com/watch?v=2uXS20iWve4'>it</a></body></html>",
        ),
        (
            "listenbrainz, a listen a line", "metabrainz/listenbrainz-server PR#3838, its listens' fields",
            "listenbrainz_anna.zip",
            {
                "user.json": {"user_id": 1, "username": "anna"},
                "listens/2023/1.jsonl": "\n".join(
                    json.dumps(each)
                    for each in (
                        {
                            "listened_at": 1673060842, "recording_msid": "663dc7d3-5990-4460-a1d9-b29c2db98b66",
                            "track_metadata": {
                                "track_name": "Svefn-g-englar (live)", "artist_name": "Sigur Rós",
                                "mbid_mapping": {"recording_mbid": MBID, "artists": []},
                                "additional_info": {"recording_mbid": "00000000-0000-0000-0000-000000000000"},
                            },
                        },
                        {
                            "listened_at": 1673060956,
                            "track_metadata": {"track_name": "Positive Tension", "artist_name": "Bloc Party"},
                        },
                    )
                ),
            },
        ),
        (
            "last.fm by lastfm.ghan.nl", "lastfm.ghan.nl/export", "recenttracks.csv",
            "uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid\n"
            f'"1767217094","31 Dec 2025, 21:38","Sigur Ros","","Agaetis","","Svefn","{MBID}"\n'
            '"1108334827","13 Feb 2005, 22:47","Bloc Party","8c538f11-c141-4588-8ecb-931083524186","","",'
            '"Positive Tension",""\n"","now playing","Bloc Party","","","","Banquet",""\n'
            '"27","01 Jan 1970, 00:00","Bloc Party","","","","Banquet",""\n',
        ),
        (
            "last.fm by lastfm-to-csv, without a header", "benfoxall/lastfm-to-csv", "anna.csv",
            'Bloc Party,Silent Alarm,Positive Tension,"19 Aug 2026, 20:48"\n'
            "Radiohead,OK Computer,Paranoid Android,15 Jun 2007 22:30\n",
        ),
        (
            "last.fm by lastfmstats.com", "lastfmstats.com", "lastfmstats-anna.csv",
            "\ufeffArtist;Album;AlbumId;Track;Date#anna\nBloc Party;Silent Alarm;;Positive Tension;1704067200000\n",
        ),
        (
            "amazon, orders of a data request", "jprouty/mint-amazon-tagger#159, AmazonOrders' files",
            "Retail.OrderHistory.1.csv",
            AMAZON
            + "Amazon.com,113-1234567-0000001,2026-08-01T14:03:11Z,Not Available,USD,13.00,1.00,0,0,14.00,13.00,1.00,"
            "B0EXAMPLE1,New,2,Visa - 1234,Closed,Shipped,2026-08-02T03:00:00Z,standard,Not Available,Not Available,"
            "AMZN_US(TBA1),USB-C Cable,Not Available,Not Available,Not Available\n"
            "Amazon.com,113-1234567-0000002,2026-08-01T14:03:11Z,Not Available,USD,9.00,1.00,0,0,9.00,9.00,1.00,"
            "0441013593,New,1,Visa - 1234,Closed,Shipped,2026-08-04T03:00:00Z,standard,Not Available,Not Available,"
            'AMZN_US(TBA2),"Dune, a novel",Not Available,Not Available,Not Available\n'
            "Amazon.com,113-1234567-0000003,2026-08-01T14:03:11Z,Not Available,USD,9.00,1.00,0,0,9.00,9.00,1.00,"
            "B0EXAMPLE1,New,1,Visa - 1234,Cancelled,Not Available,Not Available,standard,Not Available,Not Available,"
            "Not Available,USB-C Cable,Not Available,Not Available,Not Available\n",
        ),
        (
            "amazon, older dates", "Amazon order reports before 2023", "Retail.OrderHistory.2.csv",
            "Order ID,Order Date,ASIN,Product Name,Quantity,Order Status\n"
            "1,01/15/2024,B0EXAMPLE1,USB-C Cable,1,Closed\n",
        ),
        ("nothing that is known", "", "mine.csv", "When,What\n2020-01-01,Heat\n"),
        ("an empty file", "", "ratings.csv", ""),
        ("files of two services", "", "mine.zip", {"watched.csv": WATCHED, "imdb.csv": IMDB}),
    ]  # fmt: skip


def _play(ts: str, ms: int, track: str | None, artist: str | None, uri: str | None) -> dict[str, Any]:
    """One entry of Spotify's extended history."""
    return {
        "ts": ts, "platform": "ios", "ms_played": ms, "conn_country": "IE", "ip_addr": "192.0.2.1",
        "master_metadata_track_name": track, "master_metadata_album_artist_name": artist,
        "master_metadata_album_album_name": None if track is None else "Ágætis byrjun",
        "spotify_track_uri": None if uri is None else f"spotify:track:{uri}", "episode_name": None,
        "episode_show_name": None, "spotify_episode_uri": None, "audiobook_title": None, "audiobook_uri": None,
        "reason_start": "trackdone", "reason_end": "trackdone", "shuffle": False, "skipped": False, "offline": False,
        "offline_timestamp": 1761173807, "incognito_mode": False,
    }  # fmt: skip


def _bytes(content: str | bytes | dict[str, Any]) -> bytes:
    if isinstance(content, dict):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, inside in content.items():
                text = inside if isinstance(inside, str) else json.dumps(inside, ensure_ascii=False)
                archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_STORED)  # the same bytes everywhere
        return packed.getvalue()
    return content.encode() if isinstance(content, str) else content


def _case(what: str, source: str, name: str, content: Any, said: dict[str, str] | None = None) -> dict[str, Any]:
    """The file, its rows, and what a device would store of them and has stored."""
    data, said = _bytes(content), said or {}
    found: dict[str, Any] = {"what": what, "source": source, "name": name, "said": said}
    found |= {"text": data.decode()} if isinstance(content, str) else {"hex": data.hex()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        try:
            with members_of(path) as members:
                reading = HistoryReading(members, NOW, said.get("profile"), said.get("dates"))
                found["rows"] = [list(row) for row in reading.rows()]
        except InputError as error:
            return found | {"refused": str(error)}
        with open_device(f"{folder}/store", app="histories", key=bytes(32), clock=lambda: float(NOW)) as device:
            device.consent.grant("store")
            preview = preview_history(
                device.store, ItemTable.of(CATALOGUE), path, profile=said.get("profile"), dates=said.get("dates")
            )
            found["preview"] = str(preview)
            found["questions"], found["left"] = dict(preview.questions), dict(preview.left)
            found["unknown"] = list(preview.unknown_titles)
            found["to_confirm"] = [
                [each.title, each.year, list(each.items), each.events] for each in preview.to_confirm
            ]
            if not preview.questions:
                preview.store(confirmed=preview.to_confirm)
            found["stored"] = [[each.kind, each.item, each.time, each.value, each.id] for each in device.store.events()]
    return found


def _plain(facts: ItemFacts) -> dict[str, Any]:
    return {
        "item": facts.item, "title": facts.title, "year": facts.year, "alternatives": list(facts.alternatives),
        "ids": dict(facts.ids),
    }  # fmt: skip
