/* Which tokens of a batch of conversations are learned, and what two common mistakes make of that.
   The tokens were made before (SmolLM2's); this script colours and counts them.

   A page needs these, in this order, wherever it wants the widget:
     <link rel="stylesheet" href="../_static/widgets/widget.css">
     <link rel="stylesheet" href="../_static/widgets/chat_mask.css">
     <script defer src="../_static/widgets/elements.js"></script>
     <script defer src="../_static/widgets/chat_mask_tokens.js"></script>
     <script defer src="../_static/widgets/chat_mask.js"></script>
     <figure class="tl-fallback">...a static picture: without JavaScript, and in print...</figure>
     <div class="tl-widget" data-tl-widget="chat-mask"></div> */

(function () {
  "use strict";

  const { element, mount, chat: rows } = window.TransformerLessons;

  const PAD = "<|im_end|>"; // the padding of SmolLM2 is the token that ends a turn

  const OUTCOMES = { // by mistake: all tokens learned, ends ignored
    "": "The model learns to answer and to stop.",
    "all": "The model learns to answer and to stop, and also to write questions and the marks "
      + "between turns: where it doesn't stop, it writes the user's part itself.",
    "ends": "The model learns to answer, but no example shows it an end: it never stops.",
    "all ends": "The model never sees an end, and it learns to write the user's part: it goes on "
      + "with a conversation with itself.",
  };

  /* Whether a token bears loss. The first token of a row has nothing before it. */
  function is_learned([text, kind], { all, ends }) {
    if (kind === "first" || kind === "padding") return false;
    if (ends && text === PAD) return false;
    return all || kind === "answer" || kind === "end";
  }

  class ChatMask {
    constructor(root, id) {
      this.mistakes = { all: false, ends: false };
      this.boxes = rows.map((row) => row.map(([text, kind]) => element("span",
        { class: `tl-token${kind === "padding" ? " tl-pad" : ""}` }, shown(text))));
      this.decoded = rows.map(() => element("p", { class: "tl-decoded" }));
      this.summary = element("p", { class: "tl-summary", "aria-live": "polite" });
      root.replaceChildren(this.header(), this.toggles(id), element("div", { class: "tl-masked" },
        ...rows.map((_, i) => this.row(i))), this.summary);
      this.show();
    }

    header() {
      return element("div", { class: "tl-header" },
        element("p", { class: "tl-title" }, "Which tokens are learned?"),
        element("p", { class: "tl-note" }, "Two conversations, tokens of SmolLM2; "
          + "filled: learned, dotted: padding"));
    }

    toggles(id) {
      const texts = { all: "Learn every token, the user's too",
        ends: "Ignore every target that looks like padding" };
      return element("fieldset", { class: "tl-choices" }, element("legend", {}, "Mistakes"),
        ...Object.entries(texts).map(([name, text]) => {
          const input = element("input", { type: "checkbox", id: `${id}-${name}` });
          input.addEventListener("change", () => {
            this.mistakes[name] = input.checked;
            this.show();
          });
          return element("label", { for: input.id }, input, text);
        }));
    }

    row(i) {
      const title = `Conversation ${i + 1}`;
      return element("section", { class: "tl-chat", "aria-label": title },
        element("p", { class: "tl-label" }, title),
        element("p", { class: "tl-tokens" }, ...this.boxes[i]), this.decoded[i]);
    }

    show() {
      const count = { real: 0, learned: 0, ends: 0, learned_ends: 0 };
      rows.forEach((row, i) => {
        const learned = row.map((token) => is_learned(token, this.mistakes));
        row.forEach(([, kind], place) => {
          this.boxes[i][place].classList.toggle("tl-learned", learned[place]);
          if (kind !== "padding") count.real += 1;
          if (learned[place]) count.learned += 1;
          if (kind === "end") count.ends += 1;
          if (kind === "end" && learned[place]) count.learned_ends += 1;
        });
        const text = row.filter((_, place) => learned[place]).map(([name]) => shown(name)).join("");
        this.decoded[i].textContent = `The targets that count, decoded: ${text}`;
      });
      const names = Object.keys(this.mistakes).filter((name) => this.mistakes[name]).join(" ");
      this.summary.textContent = `${count.learned} of ${count.real} tokens are learned, `
        + `${count.learned_ends} of ${count.ends} ends of answers among them. ${OUTCOMES[names]}`;
    }
  }

  const shown = (text) => text.replaceAll(" ", "·").replaceAll("\n", "⏎");

  // Without the script of the tokens there is nothing to show: the static picture stays.
  if (rows) mount("chat-mask", (root, id) => new ChatMask(root, id));
})();
