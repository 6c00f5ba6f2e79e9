import { erase } from "../../src/index.js";
import { openIndexedDb } from "../../src/store/indexed_db.js";
import { ok, refused, test } from "../harness.js";
import { place } from "../sample.js";
import { harmed, type Pieces } from "./putback.js";

async function during<T>(app: string, work: (records: IDBObjectStore) => IDBRequest<T> | undefined): Promise<T> {
  const database = await new Promise<IDBDatabase>((resolve) => (indexedDB.open(`palate/${app}`).onsuccess = ({ target }) => resolve((target as IDBOpenDBRequest).result)));
  const transaction = database.transaction("records", "readwrite");
  const request = work(transaction.objectStore("records"));
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  database.close();
  return request?.result as T;
}

test("put back: in IndexedDB each record that is flipped, cut, deleted, exchanged or of an hour ago is told, or nothing is lost", async () => {
  const { app } = await place();
  const read = async (): Promise<Pieces> => {
    const names = (await during(app, (records) => records.getAllKeys())) as string[];
    const values = (await during(app, (records) => records.getAll())) as Uint8Array[];
    return new Map(names.map((name, at) => [name, values[at]]));
  };
  const write = async (pieces: Pieces): Promise<void> =>
    during(app, (records) => {
      records.clear();
      for (const [name, data] of pieces) records.put(data, name);
      return undefined;
    });
  const told = await harmed({ read, write, open: () => openIndexedDb(app) }, 2 ** 14);
  ok(told > 100, `got ${told}`);
  await write(new Map());
  await refused(() => openIndexedDb(app), /some of it is missing, or older/);
  await erase(app);
  await (await openIndexedDb(app)).close();
  await erase(app);
});
