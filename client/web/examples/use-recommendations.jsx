// A hook for React. Nothing in the package knows React; an app copies these lines and changes them.
import { useCallback, useEffect, useState } from "react";
import { open } from "@palate/web";

/** One device for the whole page: components share it. */
let opening;
async function made({ model, text: _, ...options }) {
  const device = await open(options);
  await device.updateModel(model);
  return device;
}
const deviceOf = (options) => (opening ??= made(options));

/**
 * A list for this user, which follows what they do once they have agreed to be remembered. Before `agree(true)` nothing is stored in the
 * browser: the list is by the model alone, and `did` answers "no consent".
 *
 *     const { list, did, agreed, agree } = useRecommendations({ app: "bookshop", service, model: "/model/", text: "2026-11" }, 10);
 *     list.map(({ item, reason }) => <Book key={item} id={item} why={reason} onOpen={() => did(item, "view")} />);
 *     <label><input type="checkbox" checked={agreed} onChange={({ target }) => agree(target.checked)} /> Remember what I open</label>
 */
export function useRecommendations(options, n = 10) {
  const [list, setList] = useState([]);
  const [error, setError] = useState(null);
  const [agreed, setAgreed] = useState(false);
  const refresh = useCallback(async () => {
    const device = await deviceOf(options);
    setList(await device.recommend(n));
    setAgreed(await device.consent.get("store"));
    // `options` are what the app is built with: they don't change from render to render.
  }, [n]);
  useEffect(() => {
    let gone = false;
    refresh().catch((why) => gone || setError(why));
    return () => {
      gone = true;
    };
  }, [refresh]);
  const did = useCallback(
    async (item, kind) => {
      const device = await deviceOf(options);
      const outcome = (await device.feedback(list, { [item]: kind })).at(-1);
      await refresh();
      return outcome;
    },
    [list, refresh],
  );
  const agree = useCallback(
    async (yes) => {
      const { consent } = await deviceOf(options);
      await (yes ? consent.grant("store", { version: options.text }) : consent.revoke("store", { version: options.text }));
      await refresh();
    },
    [refresh],
  );
  return { list, error, did, agreed, agree };
}
