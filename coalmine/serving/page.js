"use strict";

const page = document.getElementById("page");
const form = document.getElementById("form");
const send = document.getElementById("send");
const answer = document.getElementById("answer");
const fields = [...form.querySelectorAll(".field")].map((box) => ({
  name: box.dataset.name,
  datatype: box.dataset.datatype,
  nullable: "nullable" in box.dataset,
  input: box.querySelector("input"),
  error: box.querySelector(".error"),
}));
const classes = JSON.parse(page.dataset.classes);
const url = new URL("predict", location.href).href; // relative: a gateway may serve this page below a prefix
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

// A number goes out with the digits that were typed: JavaScript would round a large INT64. What is
// no number goes out as text, and the server says what is wrong with it.
function json({ datatype, nullable, input }) {
  const text = input.value;
  if (datatype === "BOOL") return String(input.checked);
  if (datatype === "BYTES") return text === "" && nullable ? "null" : JSON.stringify(text);
  if (text.trim() === "") return "null";
  return NUMBER.test(text.trim()) ? text.trim() : JSON.stringify(text);
}

const record = () => `{${fields.map((field) => `${JSON.stringify(field.name)}: ${json(field)}`).join(", ")}}`;
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function showCurl() {
  const lines = [`curl -s ${quoted(url)}`, "  -H 'content-type: application/json'", `  -d ${quoted(record())}`];
  document.getElementById("curl").textContent = lines.join(" \\\n");
}

function forgetRefusals() {
  for (const { input, error } of fields) {
    input.removeAttribute("aria-invalid");
    error.hidden = true;
  }
}

// Beside the first field that the words name, otherwise where the answer would stand.
function refuse(words) {
  const places = fields.map((field) => ({ field, at: words.indexOf(`\`${field.name}\``) }));
  const named = places.filter(({ at }) => at >= 0).sort((one, other) => one.at - other.at)[0];
  if (!named) {
    answer.replaceChildren(element("p", "refused", words));
    return;
  }
  const { input, error } = named.field;
  error.textContent = words;
  error.hidden = false;
  input.setAttribute("aria-invalid", "true");
  input.focus();
  answer.replaceChildren(element("p", "refused", `No answer: look at ${named.field.name}.`));
}

function percent(share) {
  if (share === null) return "unknown";
  if (share > 0 && share < 0.001) return "under 0.1 %";
  if (share < 1 && share > 0.999) return "over 99.9 %";
  return `${(share * 100).toFixed(1)} %`;
}

function chance(name, share, isChosen) {
  const item = element("li", isChosen ? "chosen" : "");
  const track = element("div", "track");
  const filled = element("i");
  filled.style.width = `${(share ?? 0) * 100}%`;
  track.append(filled);
  item.append(element("span", "name", name), element("span", "share", percent(share)), track);
  return item;
}

const named = (label) => (typeof label === "string" ? label : JSON.stringify(label));

function show(prediction) {
  if ("prediction" in prediction) {
    const value = prediction.prediction;
    const shown = value === null ? "no number" : String(Number(value.toPrecision(6)));
    answer.replaceChildren(element("p", "what", "Predicted"), element("p", "label", shown));
    return;
  }
  const label = named(prediction.label);
  const { probability, probabilities } = prediction;
  const chances = probabilities
    ? Object.entries(probabilities).sort((one, other) => other[1] - one[1])
    : [[classes[1], probability], [classes[0], probability === null ? null : 1 - probability]];
  const list = element("ul", "chances");
  list.append(...chances.map(([name, share]) => chance(name, share, name === label)));
  answer.replaceChildren(element("p", "what", "Predicted"), element("p", "label", label), list);
}

// Behind a gateway another release may answer than the one that gave this page.
function tell(response, milliseconds, text) {
  const by = response.headers.get("x-coalmine-version");
  const slot = response.headers.get("x-coalmine-slot");
  const id = response.headers.get("x-request-id");
  const who = by ? ` by version ${by}${slot ? ` in slot ${slot}` : ""}` : "";
  const other = by && by !== page.dataset.version ? `, which is not the ${page.dataset.version} that this page is about` : "";
  document.getElementById("by").textContent =
    `Answered in ${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms${who}${other}.${id ? ` Request id ${id}.` : ""}`;
  document.getElementById("json").textContent = text;
  document.getElementById("telling").hidden = false;
}

async function predict() {
  forgetRefusals();
  send.disabled = true;
  document.getElementById("telling").hidden = true;
  const started = performance.now();
  try {
    const headers = { "content-type": "application/json" };
    const response = await fetch(url, { method: "POST", headers, body: record(), signal: AbortSignal.timeout(30000) });
    const text = await response.text();
    tell(response, performance.now() - started, text);
    let said = {};
    try {
      said = JSON.parse(text);
    } catch {
      // A gateway's own page, not the server's answer.
    }
    if (response.ok && said.prediction) {
      show(said.prediction);
      answer.scrollIntoView({ block: "nearest" }); // on a telephone it stands below the form
    } else {
      refuse(said.error ?? `The server answered with status ${response.status} and no reason.`);
    }
  } catch (error) {
    refuse(error.name === "TimeoutError" ? "No answer came within 30 seconds." : "The server could not be reached.");
  } finally {
    send.disabled = false;
  }
}

async function copy() {
  const curl = document.getElementById("curl");
  const button = document.getElementById("copy");
  try {
    await navigator.clipboard.writeText(curl.textContent);
    button.textContent = "Copied";
  } catch {
    // Browsers give pages the clipboard over HTTPS and on localhost only.
    getSelection().selectAllChildren(curl);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});
form.addEventListener("input", showCurl);
form.addEventListener("reset", () => {
  forgetRefusals();
  setTimeout(showCurl); // the fields change after this event
});
document.getElementById("copy").addEventListener("click", copy);
showCurl();
