// Keys, the next item without a new page, live progress. Pages work without it.
"use strict";

const formToken = document.querySelector('meta[name="assay-form"]').content;
const said = document.getElementById("said");
const seen = [];
const pages = new Map();
let busy = false;

function tell(words) {
  said.textContent = words;
}

async function send(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Assay-Form": formToken },
    body: JSON.stringify(body ?? {}),
  });
  const told = await answer.json().catch(() => ({ detail: "the server gave no answer" }));
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

function fetchItem(item) {
  if (!pages.has(item)) {
    const page = fetch(`/fragment?item=${item}`).then((answer) => {
      if (!answer.ok) throw new Error("the item could not be loaded");
      return answer.text();
    });
    page.catch(() => pages.delete(item));
    pages.set(item, page);
    if (pages.size > 30) pages.delete(pages.keys().next().value);
  }
  return pages.get(item);
}

function parsed(text) {
  // Markup of the server's own templates, in which everything from outside is escaped; scripts in it would not run.
  return new DOMParser().parseFromString(text, "text/html").getElementById("item");
}

async function show(item, focus = true) {
  const article = parsed(await fetchItem(item));
  pages.delete(item);
  document.getElementById("item").replaceWith(article);
  history.replaceState(null, "", `/?item=${item}`);
  prepare();
  if (focus) document.getElementById("item-name").focus();
}

async function prefetch(item) {
  const article = parsed(await fetchItem(item));
  const image = article.querySelector("img");
  if (image) new Image().src = image.getAttribute("src");
}

function current() {
  const article = document.getElementById("item");
  return article ? Number(article.dataset.item) : null;
}

async function doing(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    tell(`That did not work: ${error.message}`);
    notice(error.message);
  } finally {
    busy = false;
  }
}

function notice(words) {
  let box = document.getElementById("notice");
  if (!box) {
    box = document.createElement("p");
    box.id = "notice";
    box.className = "notice";
    document.getElementById("main").prepend(box);
  }
  box.textContent = words;
}

function judge(value) {
  return doing(async () => {
    const item = current();
    const told = await send("/api/labels", { item, value });
    seen.push(item);
    if (told.next === null) {
      location.href = "/";
      return;
    }
    await show(told.next);
    tell(`Judged ${value}. Next: ${document.getElementById("item-name").textContent}`);
    told.then.forEach((one) => prefetch(one).catch(() => {}));
  });
}

function skip() {
  return doing(async () => {
    const item = current();
    const answer = await fetch(`/api/next?after=${item}`);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail);
    if (told.item === null) {
      location.href = "/";
      return;
    }
    seen.push(item);
    await show(told.item);
    tell(`Skipped. Next: ${document.getElementById("item-name").textContent}`);
  });
}

function back() {
  return doing(async () => {
    if (seen.length === 0) return;
    await show(seen.pop());
    tell(`Back at ${document.getElementById("item-name").textContent}`);
  });
}

function undo() {
  return doing(async () => {
    const told = await send("/api/undo");
    if (told.item === null) {
      tell("There is nothing to undo");
      return;
    }
    await show(told.item);
    tell(`Undone: ${document.getElementById("item-name").textContent}`);
  });
}

function heat() {
  const button = document.getElementById("heat");
  const image = document.querySelector(".item-image");
  if (!button || !image) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  image.src = `/items/${current()}/image.jpg${on ? "?heat=true" : ""}`;
}

async function remedy() {
  const link = document.getElementById("ask-remedy");
  if (!link || link.dataset.asked) return;
  const item = current();
  const question = link.innerHTML;
  link.dataset.asked = "true";
  link.textContent = "Looking for what would make it ordinary…";
  tell(link.textContent);
  try {
    const answer = await fetch(`/fragment?item=${item}&remedy=true`);
    if (!answer.ok) throw new Error("the server gave no answer");
    const section = parsed(await answer.text()).querySelector("#remedy");
    // Whoever judged in the meantime looks at another item now.
    if (current() !== item) return;
    document.getElementById("remedy").replaceWith(section);
    document.getElementById("remedy-head").focus();
    tell(section.querySelector("p").textContent);
  } catch (error) {
    link.innerHTML = question;
    delete link.dataset.asked;
    notice(error.message);
    tell(`That did not work: ${error.message}`);
  }
}

function prepare() {
  const form = document.getElementById("judge");
  if (!form) return;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    judge(Number(event.submitter.value));
  });
  document.getElementById("undo").addEventListener("submit", (event) => {
    event.preventDefault();
    undo();
  });
  const forth = document.getElementById("skip");
  forth.addEventListener("click", (event) => {
    event.preventDefault();
    skip();
  });
  const backwards = document.getElementById("back");
  backwards.hidden = seen.length === 0;
  backwards.addEventListener("click", (event) => {
    event.preventDefault();
    back();
  });
  document.getElementById("heat")?.addEventListener("click", heat);
  document.getElementById("ask-remedy")?.addEventListener("click", (event) => {
    event.preventDefault();
    remedy();
  });
}

document.addEventListener("keydown", (event) => {
  if (current() === null || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input, select, textarea")) return;
  const keys = { ArrowRight: skip, ArrowLeft: back, u: undo, h: heat, w: remedy };
  const action = /^[0-5]$/.test(event.key) ? () => judge(Number(event.key)) : keys[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

document.getElementById("all-items")?.addEventListener("click", () =>
  doing(async () => {
    await send("/api/selection", { places: [] });
    location.href = "/";
  }),
);

const training = document.getElementById("training");

async function follow() {
  const bar = training.querySelector("progress");
  const words = training.querySelector("span");
  const button = document.querySelector("#retrain button");
  const told = await (await fetch("/api/retrain")).json();
  bar.value = told.share;
  button.disabled = told.running;
  if (told.error) words.textContent = `It failed: ${told.error}`;
  else if (told.running) words.textContent = `${told.step}…`;
  else if (told.labels) words.textContent = `Learned from ${told.labels} items in ${told.seconds.toFixed(1)} s.`;
  if (told.running) setTimeout(follow, 250);
}

if (training) {
  document.getElementById("retrain").addEventListener("submit", (event) => {
    event.preventDefault();
    doing(async () => {
      training.querySelector("span").textContent = "starting…";
      await send("/api/retrain");
      await follow();
    });
  });
  if (training.dataset.running === "true") follow();
}

prepare();
