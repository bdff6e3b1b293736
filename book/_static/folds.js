/* Folds open for who is led to them: by a link to something inside, or to a section called
   "Going deeper", which is one. (In print all folds are open.) */

(function () {
  "use strict";

  function open(fold) {
    if (fold.matches("details")) fold.open = true;
    else if (fold.matches(".toggle-hidden")) fold.querySelector(".toggle-button").click();
  }

  function lead() {
    let target;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {} // no name of a place
    if (!target) return;
    const FOLDS = "details, .admonition.toggle";
    const around = [];
    for (let at = target.closest(FOLDS); at; at = at.parentElement.closest(FOLDS)) around.push(at);
    const heading = target.querySelector(":scope > :is(h2, h3)");
    const inside = heading?.textContent.startsWith("Going deeper")
      ? target.querySelectorAll(`:scope > :is(${FOLDS}), :scope > .cell details`) : [];
    [...around, ...inside].forEach(open);
    if (around.length) target.scrollIntoView();
  }

  addEventListener("load", lead); // by then the folds are made
  addEventListener("hashchange", lead);
})();
