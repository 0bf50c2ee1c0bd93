// The model card of the version that answers.

import { element, find } from "./element.js";

const panel = find("card");

/** Show it in a frame, where it has its own style and runs nothing; or say that there is none. */
export function showCard({ model, card }) {
  if (card === null) {
    const told = `Version ${model.version} of ${model.name} was registered without a model card.`;
    panel.replaceChildren(element("p", { className: "lead" }, told));
    return;
  }
  const title = `Model card of version ${model.version}`;
  const frame = element("iframe", { title, sandbox: "allow-same-origin", loading: "lazy" });
  frame.addEventListener("load", fit);
  frame.src = `card?version=${model.version}`;
  panel.replaceChildren(frame);
}

// As tall as what is in it, so that the page alone scrolls.
function fit() {
  const frame = panel.querySelector("iframe");
  const inside = frame?.contentDocument?.body;
  if (inside && !panel.hidden) frame.style.height = `${inside.scrollHeight + 24}px`;
}

panel.addEventListener("shown", fit);
new ResizeObserver(fit).observe(panel);
