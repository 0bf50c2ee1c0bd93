// Tabs, by the pattern of the ARIA Authoring Practices: arrows move, Home and End jump, the address remembers.

const tabs = [...document.querySelectorAll("[role=tab]")];

const panel = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

function choose(chosen) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    panel(tab).hidden = tab !== chosen;
  }
  chosen.scrollIntoView({ block: "nearest", inline: "nearest" });
  panel(chosen).dispatchEvent(new Event("shown"));
}

const remembered = () => tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);

export function openTabs() {
  tabs.forEach((tab, place) => {
    const go = (to) => {
      const next = tabs.at(to % tabs.length);
      next.focus();
      next.click();
    };
    tab.addEventListener("click", () => {
      choose(tab);
      history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
    });
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      go(to);
    });
  });
  window.addEventListener("hashchange", () => { if (remembered()) choose(remembered()); });
  if (remembered()) choose(remembered());
}
