"""The project's colours, shared by the figures of a run and by every page and chart."""

# Name of a colour: its value in a light theme, its value in a dark theme.
PALETTE = {
    "ground": ("#fffdfb", "#191114"),
    "raised": ("#f8f1ee", "#251a1f"),
    "ink": ("#2e0f1b", "#f4e9ec"),
    "soft": ("#6d5560", "#bfa9b2"),
    "line": ("#e3d5d3", "#45343b"),
    "wine": ("#8c1c40", "#f08fae"),
    "rose": ("#d9a3b3", "#7d3a52"),
    "water": ("#0f4a66", "#6bbfe0"),
}
