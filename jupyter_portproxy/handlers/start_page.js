"use strict";
// Shows the progress of a service without loading the page again, then loads it again: by then it is the service's own.
const FIELD = "X-Portproxy-Start";
const POLL_PAUSE = 400; // ms
const RETRY_PAUSE = 2000; // ms
const AWAITED = ["unhealthy", "down"]; // of what is attached from elsewhere, for hours perhaps
const main = document.querySelector("main");
const part = name => document.getElementById(name);
let begin = performance.now() - 1000 * Number(main.dataset.seconds);
let isStarting = main.dataset.state === "starting";

// Not `location.href`: the fragment is not sent, and a path may begin with two slashes.
async function send(method, command) {
  const url = location.origin + location.pathname + location.search;
  const response = await fetch(url, { method, headers: { [FIELD]: command }, cache: "no-store", redirect: "manual" });
  return response.headers.has(FIELD) ? response.json() : null;
}

function write(name, text) {
  const element = part(name);
  if (element.textContent !== text) {
    element.textContent = text;
  }
  element.hidden = !text;
}

function show(report) {
  isStarting = report.state === "starting";
  begin = performance.now() - 1000 * report.seconds;
  write("heading", report.heading);
  document.title = report.heading;
  write("message", report.message);
  write("address", report.address);
  const { scrollHeight, scrollTop, clientHeight } = part("lines");
  write("lines", report.lines.join("\n"));
  if (scrollHeight - scrollTop - clientHeight < 40) {
    part("lines").scrollTop = part("lines").scrollHeight;
  }
  part("steps").hidden = !isStarting && report.step < 2;
  part("again").hidden = !report.is_over;
  [...part("steps").children].forEach((step, index) => {
    step.className = index < report.step ? "done" : "";
    step.ariaCurrent = index === report.step ? "step" : null;
  });
  tick();
}

function tick() {
  part("time").hidden = !isStarting;
  part("elapsed").textContent = Math.floor((performance.now() - begin) / 1000);
}

async function follow(method = "GET", command = "report") {
  let pause = POLL_PAUSE;
  try {
    const report = await send(method, command);
    if (report === null || report.step === 2) {
      if (report !== null) {
        show(report);
      }
      location.reload();
      return;
    }
    show(report);
    if (report.is_over) {
      return;
    }
    pause = AWAITED.includes(report.state) ? RETRY_PAUSE : POLL_PAUSE;
  } catch {
    write("message", "The Jupyter server does not answer. Trying again…");
    pause = RETRY_PAUSE;
  }
  setTimeout(follow, pause);
}

part("again").hidden = main.dataset.over === "";
part("again").addEventListener("click", () => {
  part("again").hidden = true;
  void follow("POST", "again");
});
part("lines").scrollTop = part("lines").scrollHeight;
setInterval(tick, 1000);
if (main.dataset.over === "") {
  setTimeout(follow, POLL_PAUSE);
}
