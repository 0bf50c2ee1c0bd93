// The model card of the served version.

import { byId, element } from "./element.js";

const panel = byId("card");
const FRAME_MARGIN_PIXELS = 24;

/** Show the card in a frame, where it has its own style and runs no script. */
export function showCard({ model, card }) {
  if (card === null) {
    const message = `Version ${model.version} of ${model.name} was registered without a model card.`;
    panel.replaceChildren(element("p", { className: "lead" }, message));
    return;
  }
  const title = `Model card of version ${model.version}`;
  const frame = element("iframe", { title, sandbox: "allow-same-origin", loading: "lazy" });
  frame.addEventListener("load", fitHeight);
  frame.src = `card?version=${model.version}`;
  panel.replaceChildren(frame);
}

/** Make the frame as tall as its document, so that only the page scrolls. */
function fitHeight() {
  const frame = panel.querySelector("iframe");
  const body = frame?.contentDocument?.body;
  if (body && !panel.hidden) frame.style.height = `${body.scrollHeight + FRAME_MARGIN_PIXELS}px`;
}

panel.addEventListener("shown", fitHeight);
new ResizeObserver(fitHeight).observe(panel);
