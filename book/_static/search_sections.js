/* Search results that lead to the section where the words are, and show a few words of it.

   Sphinx finds pages, and fetches each to show an excerpt. Here it gets the one section that fits
   best, from the script of all texts, so that this works from the disk too. */

(function () {
  "use strict";
  const TEXTS = window.TransformerLessonsTexts;
  const root = new URL(document.documentElement.dataset.content_root, location.href).href;
  const asked = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().trim();
  const words = asked.split(/\s+/).filter((word) => word);

  function page_of(address) {
    const href = new URL(address, location.href).href;
    return href.startsWith(root) ? href.slice(root.length).replace(/\.html.*$/, "") : "";
  }

  /* The section with the phrase, or else with most of the words; a title counts more than a text. */
  function best_section(sections) {
    const scores = sections.map(([, title, text]) => {
      const [high, low] = [title.toLowerCase(), text.toLowerCase()];
      const sum = (list, part) => list.filter((word) => part.includes(word)).length;
      return 8 * sum([asked], high) + 4 * sum([asked], low) + 2 * sum(words, high) + sum(words, low);
    });
    return sections[scores.indexOf(Math.max(...scores))];
  }

  const fetch_page = window.fetch;
  window.fetch = (address, ...rest) => {
    const sections = TEXTS[page_of(address)];
    if (!sections?.length) return fetch_page(address, ...rest);
    const main = document.createElement("div");
    main.setAttribute("role", "main");
    const [, title, text] = best_section(sections);
    const place = Math.max(0, text.toLowerCase().indexOf(asked) - 100); // Sphinx shows the first
    main.textContent = text.slice(place) || title || " "; // place of one word, not of the phrase
    return Promise.resolve(new Response(main.outerHTML));
  };

  document.addEventListener("DOMContentLoaded", () => {
    const results = document.getElementById("search-results");
    new MutationObserver(() => {
      for (const link of results.querySelectorAll("li > a:not([data-tl-section])")) {
        link.dataset.tlSection = "";
        const sections = TEXTS[page_of(link.href)];
        if (new URL(link.href).hash || !sections?.length) continue;
        const [id, title] = best_section(sections);
        if (id === sections[0][0]) continue;
        link.hash = id;
        link.append(` › ${title}`);
      }
    }).observe(results, { childList: true, subtree: true });
  });
})();
