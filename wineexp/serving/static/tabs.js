// Tabs by the pattern of the ARIA Authoring Practices: arrow keys, Home and End; the address holds the chosen tab.

const tabs = [...document.querySelectorAll("[role=tab]")];

const panelId = (tab) => tab.getAttribute("aria-controls");
const panelOf = (tab) => document.getElementById(panelId(tab));

function select(selected) {
  for (const tab of tabs) {
    tab.setAttribute("aria-selected", tab === selected);
    tab.tabIndex = tab === selected ? 0 : -1;
    panelOf(tab).hidden = tab !== selected;
  }
  selected.scrollIntoView({ block: "nearest", inline: "nearest" });
  panelOf(selected).dispatchEvent(new Event("shown"));
}

function selectFromAddress() {
  const tab = tabs.find((candidate) => `#${panelId(candidate)}` === location.hash);
  if (tab) select(tab);
}

export function openTabs() {
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => {
      select(tab);
      history.replaceState(null, "", `#${panelId(tab)}`);
    });
    tab.addEventListener("keydown", (event) => {
      const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      const next = tabs.at(target % tabs.length);
      next.focus();
      next.click();
    });
  });
  window.addEventListener("hashchange", selectFromAddress);
  selectFromAddress();
}
