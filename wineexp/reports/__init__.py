"""What people read: leaderboards, model cards, the page on a data set, lineage, charts."""
