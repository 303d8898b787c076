// Pushes of single entries: how they change the list of Following (docs/protocol.md, "Single entries").

/** Newest first, as the server orders Following. Ids have up to 64 bits, so they are compared as BigInt. */
export function newestFirst(a, b) {
  if (a.created_ms !== b.created_ms) return b.created_ms - a.created_ms;
  const [x, y] = [BigInt(a.tweet_id), BigInt(b.tweet_id)];
  return x < y ? 1 : x > y ? -1 : 0;
}

/**
 * A feed and its later pages after a `new_entries` push: `{feed, pages}`; those given stay as they are. `hasMore`: whether
 * entries follow the last one. Then an older one is left to the page that will bring it.
 *
 * An entry that is there keeps its explanation. It names the push's request, so that an act on it says which feed it
 * answers. A tweet that is gone is no candidate any more, so `dropped` forgets it as well.
 */
export function withEntries(feed, pages, push, { hasMore, nowMs }) {
  const gone = new Set(push.gone ?? []);
  const stays = ({ tweet_id }) => !gone.has(tweet_id);
  const shown = [...feed.entries, ...pages.flatMap((page) => page.entries)];
  const before = new Map(shown.map((entry) => [entry.tweet_id, entry]));
  const last = shown.at(-1);
  const changed = new Map();
  const added = [];
  for (const entry of push.entries) {
    const old = before.get(entry.tweet_id);
    if (!old && hasMore && last && newestFirst(entry, last) > 0) continue;
    const source = entry.author_id === feed.viewer_id ? "own_tweets" : "followees";
    changed.set(entry.tweet_id, { ...entry, why: entry.why ?? old?.why, source, request_id: push.request_id });
    if (!old) added.push(changed.get(entry.tweet_id));
  }
  const renew = (entries) => entries.filter(stays).map((entry) => changed.get(entry.tweet_id) ?? entry);
  const merged = {
    ...feed,
    entries: [...renew(feed.entries), ...added].sort(newestFirst),
    dropped: feed.dropped.filter((drop) => stays(drop) && !added.some(({ tweet_id }) => tweet_id === drop.tweet_id)),
    pushed: changed.size ? [...(feed.pushed ?? []), push] : (feed.pushed ?? []),
    time_ms: Math.max(feed.time_ms, nowMs),
  };
  Object.defineProperty(merged, "raw", { value: feed.raw });
  return { feed: merged, pages: pages.map((page) => ({ ...page, entries: renew(page.entries) })) };
}

/** Whether a push of the whole feed begins with the entries that the page has, or is all of them unless `hasMore`. */
export function isSame(entries, push, hasMore) {
  if (push.entries.length < entries.length || (!hasMore && push.entries.length > entries.length)) return false;
  return entries.every(({ tweet_id, text }, i) => tweet_id === push.entries[i].tweet_id && text === push.entries[i].text);
}

/** Whether a push has all of these entries, with the same texts. */
export function hasAll(entries, push) {
  const texts = new Map(push.entries.map(({ tweet_id, text }) => [tweet_id, text]));
  return entries.every(({ tweet_id, text }) => texts.get(tweet_id) === text);
}
