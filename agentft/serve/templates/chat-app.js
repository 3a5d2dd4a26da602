// The chat page. Whatever comes from a model, a server or a person is put into the page as text (textContent), never as markup.
"use strict";

const TEXT = {
  en: {
    agent: "Agent", fresh: "New conversation", say: "Your message", send: "Send", stop: "Stop", you: "You",
    placeholder: "Write a message", keys: "Enter sends, Shift + Enter starts a new line.", emptyHint: "What can we help you with?",
    keyTitle: "This server asks for a key", keyWhy: "It is kept in this tab only, and forgotten when you close it.", keyLabel: "Key",
    keyGo: "Go on", keyWrong: "The server did not accept this key.", keyEmpty: "Enter the key.",
    up: "Good answer", down: "Bad answer", better: "Suggest a better answer", copy: "Copy", copied: "Copied", actions: "Your judgement of this answer",
    editLabel: "How should it have answered?", wordsLabel: "What is wrong, in your words?",
    privacy: "What you send is stored with this conversation and helps to improve the agent. Leave out personal data.",
    store: "Store", cancel: "Cancel", stored: "Stored. Thank you.", back: "Taken back.", nothing: "Change the answer or say what is wrong.",
    notStored: "Not stored: {why}", again: "Try again", complete: "The answer is complete.", writing: "{name} is writing.",
    stopped: "You stopped this answer.", cut: "The answer was cut at the length limit.", call: "Wants to use the tool {name}",
    callNote: "This page runs no tools; the program that uses the agent does.", none: "The answer is empty.",
    busy: "The server is busy. Try again in a moment.", busyIn: "The server is busy. Try again in {n} s.",
    lost: "The server cannot be reached. Is it running?", broken: "The connection broke off before the answer was complete.",
    wrong: "The server reported a problem: {why}", noAgents: "Nothing is served here.", version: "Version {v}",
  },
  zh: {
    agent: "智能体", fresh: "新对话", say: "您的消息", send: "发送", stop: "停止", you: "您",
    placeholder: "请输入消息", keys: "按 Enter 发送，Shift + Enter 换行。", emptyHint: "请问有什么可以帮您？",
    keyTitle: "此服务需要密钥", keyWhy: "密钥只保存在当前标签页，关闭后即被清除。", keyLabel: "密钥",
    keyGo: "继续", keyWrong: "服务器不接受此密钥。", keyEmpty: "请输入密钥。",
    up: "回答得好", down: "回答得不好", better: "给出更好的回答", copy: "复制", copied: "已复制", actions: "您对这个回答的评价",
    editLabel: "应该怎样回答？", wordsLabel: "哪里不对？请用您的话说明",
    privacy: "您提交的内容会与本次对话一起保存，用于改进智能体。请勿填写个人信息。",
    store: "保存", cancel: "取消", stored: "已保存，谢谢。", back: "已撤回。", nothing: "请修改回答，或说明哪里不对。",
    notStored: "未能保存：{why}", again: "重试", complete: "回答完毕。", writing: "{name} 正在回答。",
    stopped: "您已停止这个回答。", cut: "回答达到长度上限，已被截断。", call: "想要使用工具 {name}",
    callNote: "本页面不执行工具，由使用该智能体的程序执行。", none: "回答为空。",
    busy: "服务器繁忙，请稍后重试。", busyIn: "服务器繁忙，请在 {n} 秒后重试。",
    lost: "无法连接服务器，服务是否在运行？", broken: "连接中断，回答没有写完。",
    wrong: "服务器报告了问题：{why}", noAgents: "这里没有提供任何智能体。", version: "版本 {v}",
  },
};

const $ = (id) => document.getElementById(id);
const needsKey = document.body.dataset.key === "yes", takesFeedback = document.body.dataset.feedback === "yes";
const kept = { get: (name) => { try { return sessionStorage.getItem(name); } catch { return memory[name] ?? null; } },
  set: (name, value) => { memory[name] = value; try { sessionStorage.setItem(name, value); } catch { /* private mode: this page only */ } },
  drop: (name) => { delete memory[name]; try { sessionStorage.removeItem(name); } catch { /* the same */ } } };
const memory = {};
let language = document.documentElement.lang, agents = [], agent = null, turns = [], running = null;

const t = (name, values = {}) => TEXT[language][name].replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
const langOf = (text) => (/[\u3400-\u9fff]/.test(text) ? "zh" : "en");

function clientName() {
  let name = kept.get("agentft-client");
  if (!name) {
    name = "page-" + [...crypto.getRandomValues(new Uint8Array(8))].map((one) => one.toString(16).padStart(2, "0")).join("");
    kept.set("agentft-client", name);
  }
  return name;
}

function translate(root) {
  for (const one of root.querySelectorAll("[data-text]")) one.textContent = t(one.dataset.text);
}

function copyOf(id) {
  const node = $(id).content.firstElementChild.cloneNode(true);
  translate(node);
  return node;
}

// Requests

class Problem extends Error {
  constructor(message, status = 0, code = "", wait = 0) { super(message); Object.assign(this, { status, code, wait }); }
}

async function request(path, body, signal) {
  const headers = { accept: "application/json" };
  if (body) headers["content-type"] = "application/json";
  if (kept.get("agentft-key")) headers.authorization = `Bearer ${kept.get("agentft-key")}`;
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(t("lost"));
  }
  if (answer.ok) return answer;
  let said = {};
  try { said = (await answer.json()).error ?? {}; } catch { /* no JSON: the status has to do */ }
  if (answer.status === 401) {
    askForKey(Boolean(kept.get("agentft-key")));
    kept.drop("agentft-key");
  }
  const wait = Number(answer.headers.get("retry-after")) || 0;
  const why = answer.status === 429 ? (wait ? t("busyIn", { n: Math.ceil(wait) }) : t("busy")) : t("wrong", { why: said.message ?? `HTTP ${answer.status}` });
  throw new Problem(why, answer.status, said.code ?? "", wait);
}

// Server-sent events: the data of each, as they come.
async function* events(stream) {
  const reader = stream.getReader(), decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const parts = rest.split(/\r?\n\r?\n/);
    rest = done ? "" : parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      if (data) yield data;
    }
    if (done) return;
  }
}

// The agents, and the key

async function start() {
  translate(document);
  show("down", false);
  if (needsKey && !kept.get("agentft-key")) return askForKey(false);
  try {
    agents = (await (await request("v1/agents")).json()).data;
  } catch (problem) {
    if (problem.status !== 401) { $("down-text").textContent = problem.message; show("down", true); }
    return;
  }
  show("gate", false);
  if (!agents.length) { $("down-text").textContent = t("noAgents"); return show("down", true); }
  const chosen = agents.find((one) => one.id === kept.get("agentft-agent")) ?? agents[0];
  $("agent").replaceChildren(...agents.map((one) => new Option(one.id, one.id)));
  $("agent").value = chosen.id;
  show("pick", agents.length > 1);
  $("title").classList.toggle("sr", agents.length > 1); // the choice says it as well
  show("fresh", true); show("composer", true);
  // A key that was changed in the middle of a conversation does not end it.
  if (chosen.id !== agent?.id || !turns.length) choose(chosen);
  else { $("title").textContent = agent.id; $("say").focus(); }
}

function show(id, visible) { $(id).hidden = !visible; }

function askForKey(wrong) {
  for (const id of ["composer", "empty", "fresh", "pick"]) show(id, false);
  $("title").textContent = "";
  $("key-problem").textContent = t("keyWrong");
  show("key-problem", wrong); show("gate", true);
  translate(document);
  $("key").value = ""; $("key").focus();
}

function choose(one) {
  agent = one;
  language = TEXT[one.language] ? one.language : "en";
  document.documentElement.lang = language;
  kept.set("agentft-agent", one.id);
  translate(document);
  $("title").textContent = one.id; document.title = one.id;
  $("version").textContent = one.version ? t("version", { v: one.version }) : ""; show("version", Boolean(one.version));
  $("summary").textContent = one.summary || one.id; $("summary").lang = langOf(one.summary);
  $("say").placeholder = t("placeholder");
  fresh();
}

function fresh() {
  running?.abort();
  turns = [];
  $("talk").replaceChildren();
  show("empty", true);
  $("status").textContent = "";
  fit(); $("say").focus();
}

// The conversation

// What the agent gets to read: complete turns; what a person said twice in a row, because an answer failed, in one message.
function conversation(until) {
  const messages = [];
  for (const turn of turns) {
    if (turn === until) break;
    if (!turn.text) continue;
    const last = messages.at(-1);
    if (last?.role === turn.role && turn.role === "user") last.content += `\n\n${turn.text}`;
    else messages.push({ role: turn.role, content: turn.text });
  }
  return messages;
}

function say(text) {
  const node = copyOf("t-user");
  node.querySelector(".text").textContent = text;
  node.querySelector(".text").lang = langOf(text);
  $("talk").append(node);
  turns.push({ role: "user", text });
  show("empty", false);
  answer();
}

async function answer() {
  const turn = { role: "assistant", text: "", calls: [], id: "", node: copyOf("t-answer"), asked: [] };
  const node = turn.node, text = node.querySelector(".text"), mine = new AbortController();
  node.querySelector(".name").textContent = agent.id;
  node.classList.add("waiting");
  $("talk").append(node);
  turns.push(turn);
  turn.asked = conversation(turn); turn.model = agent.id;
  running = mine; busy(true);
  $("status").textContent = t("writing", { name: agent.id });
  node.scrollIntoView({ block: "nearest" });
  let finish = "", problem = null;
  try {
    const reply = await request("v1/chat/completions", { model: agent.id, messages: turn.asked, stream: true }, mine.signal);
    try {
      for await (const data of events(reply.body)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Problem(t("wrong", { why: chunk.error.message ?? "" }));
        turn.id ||= chunk.id ?? "";
        const choice = chunk.choices?.[0];
        if (!choice) continue;
        const delta = choice.delta ?? {};
        if (delta.content) { turn.text += delta.content; grow(text, turn.text); node.classList.remove("waiting"); }
        for (const piece of delta.tool_calls ?? []) {
          const call = (turn.calls[piece.index ?? 0] ??= { name: "", arguments: "" });
          call.name += piece.function?.name ?? ""; call.arguments += piece.function?.arguments ?? "";
        }
        finish = choice.finish_reason ?? finish;
      }
    } catch (error) {
      if (error.name === "AbortError" || error instanceof Problem) throw error;
      throw new Problem(t("broken"));
    }
    if (!finish) throw new Problem(t("broken"));
  } catch (error) {
    problem = error;
  }
  const current = running === mine;
  if (current) { running = null; busy(false); }
  node.classList.remove("waiting");
  turn.calls = turn.calls.filter(Boolean);
  for (const call of turn.calls) showCall(node, call);
  text.lang = langOf(turn.text);
  settle(turn, finish, problem);
  node.setAttribute("aria-busy", "false");
  if (!current) return;
  $("status").textContent = problem ? "" : t("complete");
  node.scrollIntoView({ block: "nearest" });
  if (problem?.status !== 401 && !matchMedia("(pointer: coarse)").matches) $("say").focus();
}

function grow(node, text) {
  const below = document.documentElement.scrollHeight - innerHeight - scrollY;
  node.textContent = text;
  if (below < 80) scrollTo(0, document.documentElement.scrollHeight);
}

function showCall(node, call) {
  const card = copyOf("t-call");
  card.querySelector("h3 span").textContent = t("call", { name: call.name });
  let written = call.arguments;
  try { written = JSON.stringify(JSON.parse(written), null, 2); } catch { /* shown as it is */ }
  card.querySelector("pre").textContent = written;
  node.querySelector(".calls").append(card);
}

function settle(turn, finish, problem) {
  const node = turn.node, note = node.querySelector(".note");
  const stopped = problem?.name === "AbortError";
  const say = stopped ? "stopped" : problem ? "" : finish === "length" ? "cut" : turn.calls.length ? "callNote" : turn.text ? "" : "none";
  note.textContent = say ? t(say) : ""; note.hidden = !say;
  if (problem && !stopped) {
    const box = node.querySelector(":scope > .problem"), again = box.querySelector(".again");
    box.firstElementChild.textContent = problem.message; box.hidden = false;
    again.addEventListener("click", () => {
      if (running) return;
      turns = turns.filter((one) => one !== turn);
      node.remove();
      answer();
    });
    if (problem.status === 429 && problem.wait) countDown(box.firstElementChild, again, Math.ceil(problem.wait));
    return;
  }
  if (!turn.text && !turn.calls.length) return;
  judge(turn);
}

function countDown(words, again, seconds) {
  again.disabled = true;
  const tick = setInterval(() => {
    seconds -= 1;
    words.textContent = seconds > 0 ? t("busyIn", { n: seconds }) : t("busy");
    if (seconds > 0) return;
    again.disabled = false;
    clearInterval(tick);
  }, 1000);
}

// Judgements

function judge(turn) {
  const node = turn.node, part = (name) => node.querySelector(name), panel = part(".panel");
  part(".actions").hidden = false;
  part(".actions").setAttribute("aria-label", t("actions"));
  const copy = part(".copy");
  copy.hidden = !navigator.clipboard || !turn.text;
  copy.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(turn.text); told(node, t("copied"), ""); } catch { copy.hidden = true; }
  });
  for (const name of ["up", "down", "better"]) part(`.${name}`).hidden = !takesFeedback;
  if (!takesFeedback) return;
  const press = (thumb) => { for (const name of ["up", "down"]) part(`.${name}`).setAttribute("aria-pressed", String(name === thumb)); };
  const open = (visible) => {
    panel.hidden = !visible;
    part(".better").setAttribute("aria-expanded", String(visible));
    if (visible && !panel.dataset.filled) { part(".edit").value = turn.edit ?? turn.text; part(".words").value = turn.words ?? ""; panel.dataset.filled = "yes"; }
    part(".panel .problem").hidden = true;
    if (visible) tall(part(".edit"));
  };
  for (const name of ["up", "down"]) {
    part(`.${name}`).addEventListener("click", async () => {
      const thumb = part(`.${name}`).getAttribute("aria-pressed") === "true" ? "none" : name;
      if (!(await store(turn, { thumb }, (why) => told(node, t("notStored", { why }), "failed")))) return;
      press(thumb);
      told(node, t(thumb === "none" ? "back" : "stored"), "stored");
      if (thumb === "down") { open(true); panel.scrollIntoView({ block: "nearest" }); }
    });
  }
  part(".better").addEventListener("click", () => {
    open(panel.hidden);
    if (!panel.hidden) { part(".edit").focus(); panel.scrollIntoView({ block: "nearest" }); }
  });
  part(".cancel").addEventListener("click", () => { open(false); part(".better").focus(); });
  panel.addEventListener("input", (event) => tall(event.target));
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { open(false); part(".better").focus(); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) panel.requestSubmit();
  });
  panel.addEventListener("submit", async (event) => {
    event.preventDefault();
    const edit = part(".edit").value.trim() === turn.text.trim() ? "" : part(".edit").value.trim(), words = part(".words").value.trim();
    const said = {};
    if (edit !== (turn.edit ?? "")) said.edit = edit;
    if (words !== (turn.words ?? "")) said.words = words;
    const fail = (why) => { part(".panel .problem").textContent = why; part(".panel .problem").hidden = false; };
    if (!Object.keys(said).length) return edit || words ? open(false) : fail(t("nothing"));
    if (!(await store(turn, said, (why) => fail(t("notStored", { why }))))) return;
    Object.assign(turn, said);
    open(false);
    told(node, t("stored"), "stored");
    part(".better").focus();
  });
}

function told(node, text, kind) {
  const place = node.querySelector(".said");
  place.textContent = text;
  place.className = `said ${kind}`;
}

// One at a time for an answer, so that the last click is the last word.
async function store(turn, said, failed) {
  if (turn.storing) return false;
  turn.storing = true;
  const about = { client: clientName(), source: "page", ...said };
  try {
    try {
      await request("v1/feedback", { completion_id: turn.id || null, ...(turn.id ? {} : inFull(turn)), ...about });
    } catch (problem) {
      // The server was started anew, or the answer is too old: it is told what was said.
      if (problem.code !== "completion_not_found") throw problem;
      await request("v1/feedback", { completion_id: turn.id, ...inFull(turn), ...about });
    }
    return true;
  } catch (problem) {
    failed(problem.message);
    return false;
  } finally {
    turn.storing = false;
  }
}

const inFull = (turn) => ({ messages: turn.asked, answer: turn.text, model: turn.model });

// The form at the bottom

function busy(yes) { show("stop", yes); show("send", !yes); sendable(); }

function sendable() { $("send").disabled = !$("say").value.trim(); }

// A text field as high as its text.
function tall(box) {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + box.offsetHeight - box.clientHeight}px`;
}

function fit() {
  tall($("say"));
  sendable();
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("say").value.trim();
  if (!text || running) return;
  $("say").value = "";
  fit();
  say(text);
});
$("say").addEventListener("input", fit);
$("say").addEventListener("keydown", (event) => {
  // While an input method is composing, Enter chooses a word and sends nothing.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("stop").addEventListener("click", () => { running?.abort(); $("say").focus(); });
$("fresh").addEventListener("click", fresh);
$("agent").addEventListener("change", () => choose(agents.find((one) => one.id === $("agent").value)));
$("down-again").addEventListener("click", start);
$("gate").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  $("key-problem").textContent = key ? t("keyWrong") : t("keyEmpty");
  const possible = /^[\x21-\x7e]+$/.test(key); // anything else is no header, and no key
  show("key-problem", !possible);
  if (!possible) return;
  kept.set("agentft-key", key);
  start();
});
start();
