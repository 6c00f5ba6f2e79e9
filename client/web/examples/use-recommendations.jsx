// A hook for React. Nothing in the package knows React; an app copies these lines and changes them.
import { useCallback, useEffect, useState } from "react";
import { open } from "@palate/web";

/** One device for the whole page: components share it. */
let opening;
const deviceOf = (options) => (opening ??= open(options));

/**
 * A list for this user, which follows what they do.
 *
 *     const { list, did } = useRecommendations({ app: "bookshop", service }, 10);
 *     list.map(({ item, reason }) => <Book key={item} id={item} why={reason} onOpen={() => did(item, "view")} />);
 */
export function useRecommendations(options, n = 10) {
  const [list, setList] = useState([]);
  const [error, setError] = useState(null);
  const refresh = useCallback(async () => {
    const device = await deviceOf(options);
    setList(await device.recommend(n));
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
      await device.feedback(list, { [item]: kind });
      await refresh();
    },
    [list, refresh],
  );
  return { list, error, did };
}
