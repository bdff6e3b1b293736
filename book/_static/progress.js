/* Which lessons you have read, and where you stopped: kept in this browser, and nowhere else.

   A lesson counts as read when its summary has been in view. */

(function () {
  "use strict";
  const KEY = "transformer-lessons-progress";
  const root = new URL(document.documentElement.dataset.content_root, location.href);
  const page = location.href.slice(root.href.length).split(/[?#]/)[0];
  const is_lesson = page.startsWith("notebooks/");

  function kept() {
    try {
      const { read, last } = JSON.parse(localStorage.getItem(KEY));
      return { read: Array.isArray(read) ? read.map(String) : [], last: last ?? null };
    } catch {
      return { read: [], last: null }; // nothing yet, something else, or storage is off
    }
  }

  function keep(progress) {
    try {
      localStorage.setItem(KEY, JSON.stringify(progress));
    } catch {} // without storage the book works as before
  }

  function tick() {
    const { read } = kept();
    for (const link of document.querySelectorAll(".bd-links a.reference.internal")) {
      const target = link.href.startsWith(root.href) ? link.href.slice(root.href.length) : page;
      if (!read.includes(target.split("#")[0]) || link.querySelector(".tl-read")) continue;
      const mark = document.createElement("span");
      mark.className = "tl-read";
      mark.title = "You have read this lesson";
      mark.textContent = " ✓";
      link.append(mark);
    }
  }

  function follow_the_reader() {
    const title = document.querySelector("h1").firstChild.textContent;
    const sections = [...document.querySelectorAll("article h2")].map((h) => h.parentElement);
    const observer = new IntersectionObserver((entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        const { read } = kept();
        if (target.id === "summary" && !read.includes(page)) read.push(page);
        const section = target.querySelector("h2").firstChild.textContent;
        keep({ read, last: { page, id: target.id, title, section } });
        tick();
      }
    });
    sections.forEach((section) => observer.observe(section));
  }

  function offer_to_continue() {
    const { last } = kept();
    const place = document.querySelector(".tl-start");
    if (!last || !place || !/^notebooks\/\w+\.html$/.test(last.page)) return;
    const link = document.createElement("a");
    link.href = `${new URL(last.page, root)}#${last.id}`;
    link.textContent = `${last.title}, “${last.section}”`;
    const forget = document.createElement("button");
    forget.type = "button";
    forget.className = "tl-forget";
    forget.textContent = "Forget what I have read";
    const line = document.createElement("p");
    line.className = "tl-continue";
    line.append("Continue where you were: ", link, " · ", forget);
    forget.addEventListener("click", () => {
      keep({ read: [], last: null });
      line.remove();
      document.querySelectorAll(".tl-read").forEach((mark) => mark.remove());
    });
    place.before(line);
  }

  document.addEventListener("DOMContentLoaded", () => {
    tick();
    if (is_lesson) follow_the_reader();
    else offer_to_continue();
  });
})();
