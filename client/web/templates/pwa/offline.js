// Offline: a service worker that has all files of one version. `build.mjs` writes the version and the files above this line.
//
//     install   -> every file of the new version, or it isn't installed: a full disk leaves the version before in place
//     activate  -> once no page of the version before is open, or the user says so; only then the former files go
//     fetch     -> the version's own files from the cache; nothing else is touched, and no request of a device is seen here
/* global VERSION, FILES */
const NAME = `app ${VERSION}`;
const here = new URL("./", self.location).href;

self.addEventListener("install", (event) => event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" }))))));

self.addEventListener("activate", (event) =>
  event.waitUntil(
    caches.keys().then((names) => Promise.all(names.filter((name) => name.startsWith("app ") && name !== NAME).map((name) => caches.delete(name)))).then(() => self.clients.claim()),
  ),
);

self.addEventListener("message", ({ data }) => data === "take over" && self.skipWaiting());

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method !== "GET" || !url.startsWith(here)) return;
  event.respondWith(caches.open(NAME).then(async (cache) => (await cache.match(event.request, { ignoreSearch: true })) ?? fetch(event.request)));
});
