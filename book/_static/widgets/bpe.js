/* Byte-pair encoding as pure functions: the page's twin of learn_merges and merge_chunk in the
   package.

   A token is its bytes, written as a string with one character (code 0 to 255) for each byte. Such
   strings compare as their bytes do. A word is { tokens, count }: a chunk of the text, cut into
   tokens, and how often the text holds it. */

(function () {
  "use strict";

  // GPT-2's pattern (Radford et al. 2019), PATTERNS["gpt2"] in the package. JavaScript's own \s
  // also takes U+FEFF for white space, and not U+0085.
  const CHUNK = new RegExp([
    /'(?:[sdmt]|ll|ve|re)/u, / ?\p{L}+/u, / ?\p{N}+/u, / ?[^\p{White_Space}\p{L}\p{N}]+/u,
    /\p{White_Space}+(?!\P{White_Space})/u, /\p{White_Space}/u,
  ].map((part) => part.source).join("|"), "gu");
  const NO_BYTE = "\u0100";

  /* The bytes of `text` in UTF-8. Half a surrogate pair has none. */
  function utf8_bytes(text) {
    const half = text.search(/\p{Surrogate}/u);
    if (half >= 0) {
      const position = [...text.slice(0, half)].length + 1;
      throw new Error(`character ${position} is half of a surrogate pair, which has no bytes`);
    }
    const bytes = new TextEncoder().encode(text);
    return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  }

  /* The chunks of `text`, in order; joined, they are the text. */
  const split_text = (text) => text.match(CHUNK) ?? [];

  /* Map from each chunk's bytes to how often it occurs, in the order of the text. */
  function count_chunks(text) {
    const counts = new Map();
    for (const chunk of split_text(text).map(utf8_bytes)) {
      counts.set(chunk, (counts.get(chunk) ?? 0) + 1);
    }
    return counts;
  }

  /* The words of a Map from chunks to counts, before any merge: a token for each byte. */
  const words_of = (chunks) =>
    [...chunks].map(([chunk, count]) => ({ tokens: chunk.split(""), count }));

  /* [{ pair: [left, right], count }, ...] of all neighbours, the one to join first in front: the
     most frequent; of equally frequent ones the greater, compared by its left token, then by its
     right one. */
  function ranked_pairs(words) {
    const found = new Map();
    for (const { tokens, count } of words) {
      for (let i = 0; i + 1 < tokens.length; i++) {
        const pair = [tokens[i], tokens[i + 1]];
        const entry = found.get(pair.join(NO_BYTE)) ?? { pair, count: 0 };
        entry.count += count;
        found.set(pair.join(NO_BYTE), entry);
      }
    }
    return [...found.values()].sort((a, b) => b.count - a.count
      || compare(b.pair[0], a.pair[0]) || compare(b.pair[1], a.pair[1]));
  }

  const compare = (a, b) => Number(a > b) - Number(a < b);

  /* `tokens` with every occurrence of the pair, from the left, made one token. */
  function join_pair(tokens, [left, right]) {
    const joined = [];
    for (let i = 0; i < tokens.length; i++) {
      const fits = tokens[i] === left && tokens[i + 1] === right;
      joined.push(fits ? left + right : tokens[i]);
      if (fits) i += 1;
    }
    return joined;
  }

  const join_in_words = (words, pair) =>
    words.map(({ tokens, count }) => ({ tokens: join_pair(tokens, pair), count }));

  /* The first `n_merges` pairs to join, fewer when no pair is left. */
  function learn_merges(chunks, n_merges) {
    let words = words_of(chunks);
    const merges = [];
    while (merges.length < n_merges) {
      const [best] = ranked_pairs(words);
      if (!best) break;
      words = join_in_words(words, best.pair);
      merges.push(best.pair);
    }
    return merges;
  }

  /* The tokens of one chunk. The package joins one occurrence of the pair of lowest rank at a time,
     the leftmost. To join all of them in one go gives the same, because a pair with the new token
     was learned later and has a higher rank. */
  function merge_chunk(chunk, ranks) {
    let tokens = chunk.split("");
    for (;;) {
      let [best, lowest] = [null, Infinity];
      for (let i = 0; i + 1 < tokens.length; i++) {
        const rank = ranks.get(tokens[i] + tokens[i + 1]);
        if (rank < lowest) [best, lowest] = [[tokens[i], tokens[i + 1]], rank];
      }
      if (!best) return tokens;
      tokens = join_pair(tokens, best);
    }
  }

  /* [[{ token, id }, ...], ...]: the tokens of each chunk. The 256 bytes have the ids 0 to 255, and
     the merges those from 256 on. */
  function encode(text, merges) {
    const ranks = new Map(merges.map(([left, right], rank) => [left + right, rank]));
    const id = (token) => (token.length === 1 ? token.charCodeAt(0) : 256 + ranks.get(token));
    return split_text(text).map((chunk) =>
      merge_chunk(utf8_bytes(chunk), ranks).map((token) => ({ token, id: id(token) })));
  }

  (window.TransformerLessons ??= {}).bpe = {
    utf8_bytes, split_text, count_chunks, words_of, ranked_pairs, join_pair, join_in_words,
    learn_merges, merge_chunk, encode,
  };
})();
