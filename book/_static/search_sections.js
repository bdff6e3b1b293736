/* The search: sections, entries of the glossary, exercises and names of the package, best first, each
   with a link that leads there and a few of its words. Sphinx's own search finds pages.

   The texts of the whole book are in a script, so that this works from the disk too. */

(function () {
  "use strict";
  const [SHOWN, PER_PAGE, BEFORE, LENGTH] = [40, 3, 90, 240];
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

  /* What begins with `text`; a text of one or two letters has to be a word. */
  function beginning(text, flags = "iu") {
    const end = text.length < 3 ? "(?![\\p{L}\\p{N}])" : "";
    return new RegExp(`(?<![\\p{L}\\p{N}])${escaped(text)}${end}`, flags);
  }

  function query_of(asked) {
    const words = asked.toLowerCase().split(/[^\p{L}\p{N}_]+/u).filter((word) => word);
    const known = words.filter((word) => !stopwords.includes(word));
    const stems = (known.length ? known : words).map(shared_by_forms);
    return { phrase: asked.toLowerCase(), words, stems: stems.map((stem) => beginning(stem)) };
  }

  /* "memor" of "memory", whose stem is "memori". */
  function shared_by_forms(word) {
    const stem = new Stemmer().stemWord(word);
    let n = 0;
    while (n < stem.length && stem[n] === word[n]) n += 1;
    return n < 3 ? word : word.slice(0, n);
  }

  /* [how many of the words are there, how well the place fits]. What it is called counts most,
     then what it says, and its code least. */
  function score_of({ phrase, stems }, page_title, [, title, prose, code]) {
    const name = title.replace(/^.*? · /, "").toLowerCase(); // without its number
    const found = stems.filter((stem) => [title, prose, code, page_title].some((text) => stem.test(text)));
    const inside = (text) => stems.filter((stem) => stem.test(text)).length;
    let score = 6 * inside(title) + 2 * inside(page_title) + 3 * inside(prose) + inside(code);
    if (name === phrase) score += 40;
    else if (beginning(phrase).test(title)) score += 10 + (20 * phrase.length) / name.length;
    if (stems.length > 1 && beginning(phrase).test(prose)) score += 12;
    for (const stem of stems) score += Math.min(4, prose.split(stem).length - 1) / 2;
    return [found.length, score];
  }

  function places_for(query, texts) {
    const places = [];
    for (const [page, entries] of Object.entries(texts)) {
      const title = entries[0]?.[1] ?? "";
      entries.forEach((entry, i) => {
        const [n_words, score] = score_of(query, title, entry);
        // only the page's name has the words: this is for the page, not for each of its sections
        const own = i === 0 || query.stems.some((stem) => entry.slice(1).some((text) => stem.test(text)));
        if (n_words && own) places.push({ page, title, entry, i, n_words, score });
      });
    }
    const most = Math.max(...places.map(({ n_words }) => n_words));
    return places.filter(({ n_words }) => n_words === most).sort((a, b) => b.score - a.score);
  }

  /* A few words of the text around the phrase, or else around one of the words, which are marked. */
  function excerpt({ phrase, stems }, [, , prose, code]) {
    const where = [beginning(phrase), ...stems];
    const hit = (text) => where.map((pattern) => text.search(pattern)).find((place) => place >= 0);
    const text = hit(prose) === undefined && hit(code) !== undefined ? code : prose || code;
    const place = hit(text) ?? 0;
    const start = place > BEFORE ? text.indexOf(" ", place - BEFORE) + 1 : 0;
    const rest = text.slice(start);
    const cut = rest.lastIndexOf(" ", LENGTH);
    const part = rest.length > LENGTH ? rest.slice(0, cut > 0 ? cut : LENGTH) : rest;
    const line = document.createElement("p");
    line.className = "context";
    const pattern = new RegExp(stems.map((stem) => `${stem.source}[\\p{L}\\p{N}]*`).join("|"), "giu");
    let end = 0;
    line.append(start ? "… " : "");
    for (const found of part.matchAll(pattern)) {
      const mark = document.createElement("mark");
      mark.textContent = found[0];
      line.append(part.slice(end, found.index), mark);
      end = found.index + found[0].length;
    }
    line.append(part.slice(end), part.length < rest.length ? " …" : "");
    return line;
  }

  function item(query, root, { page, title, entry, i }) {
    const [link, line] = [document.createElement("a"), document.createElement("li")];
    link.href = `${root}${page}.html${i ? `#${entry[0]}` : ""}`;
    link.textContent = i ? `${title} › ${entry[1]}` : title;
    line.append(link, excerpt(query, entry));
    return line;
  }

  function search() {
    const asked = (new URLSearchParams(location.search).get("q") ?? "").trim();
    for (const field of document.querySelectorAll('input[name="q"]')) field.value = asked;
    const query = query_of(asked);
    if (!query.stems.length) return;
    localStorage.setItem("sphinx_highlight_terms", query.words.join(" ")); // marked on the next page
    const root = document.documentElement.dataset.content_root;
    const places = places_for(query, window.TransformerLessonsTexts);
    const of_page = {};
    const shown = places.filter(({ page }) => (of_page[page] = (of_page[page] ?? 0) + 1) <= PER_PAGE);
    shown.length = Math.min(shown.length, SHOWN);

    const say = document.createElement("p");
    say.setAttribute("role", "status");
    const rest = shown.length < places.length ? `The best ${shown.length} of ` : "";
    say.textContent = places.length ? `${rest}${places.length} ${places.length === 1 ? "place" : "places"}:`
      : `Nothing found for “${asked}”. Try fewer words, or the beginning of one.`;
    const list = document.createElement("ul");
    list.className = "search";
    list.append(...shown.map((place) => item(query, root, place)));
    document.getElementById("search-results").append(say, list);
  }

  document.addEventListener("DOMContentLoaded", search);
})();
