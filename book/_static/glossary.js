/* What a term of the glossary means, shown beside it: under the pointer, at the keyboard's focus,
   and at the first tap. Escape takes it away; a click, or a second tap, leads to the glossary. */

(function () {
  "use strict";
  const LINKS = 'article a.reference.internal[href*="glossary.html#term-"]';
  const card = document.createElement("div");
  card.className = "tl-meaning";
  card.id = "tl-meaning";
  card.role = "tooltip";
  card.hidden = true;
  let shown_at = null, closing = 0, touched = false;

  function show(link) {
    clearTimeout(closing);
    if (shown_at === link) return;
    const meaning = window.TransformerLessonsTerms?.[link.hash.slice(1)];
    if (!meaning) return;
    hide();
    const [term, definition] = meaning;
    const name = document.createElement("b");
    name.textContent = term;
    card.replaceChildren(name, definition);
    if (touched) {
      const more = document.createElement("small");
      more.textContent = "Tap the word again to go to the glossary.";
      card.append(more);
    }
    card.hidden = false;
    link.setAttribute("aria-describedby", card.id);
    shown_at = link;
    place(link.getClientRects()[0]);
  }

  // Under the word, or over it where there is more room; never beyond the sides of the window.
  function place(word) {
    const { width, height } = (card.style.left = "0", card.getBoundingClientRect());
    const room = document.documentElement.clientWidth - width - 8;
    const below = word.bottom + 6 + height < innerHeight || word.top < height + 6;
    card.style.left = `${scrollX + Math.max(8, Math.min(word.left, room))}px`;
    card.style.top = `${scrollY + (below ? word.bottom + 6 : word.top - height - 6)}px`;
  }

  function hide() {
    clearTimeout(closing);
    shown_at?.removeAttribute("aria-describedby");
    shown_at = null;
    card.hidden = true;
  }

  function hide_soon() {
    clearTimeout(closing);
    closing = setTimeout(hide, 250); // time to move the pointer onto the card
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(card);
    card.addEventListener("pointerenter", () => clearTimeout(closing));
    card.addEventListener("pointerleave", hide_soon);
    for (const link of document.querySelectorAll(LINKS)) {
      let seen = false; // whether the card was there before the finger came down
      link.addEventListener("pointerdown", (event) => {
        touched = event.pointerType === "touch";
        seen = shown_at === link;
      });
      link.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && show(link));
      link.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && hide_soon());
      link.addEventListener("focus", () => show(link));
      link.addEventListener("blur", hide_soon);
      link.addEventListener("click", (event) => {
        if (touched && !seen) {
          event.preventDefault();
          show(link);
        }
      });
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    document.addEventListener("pointerdown", ({ target }) => {
      if (!card.contains(target) && !target.closest?.(LINKS)) hide();
    });
  });
})();
