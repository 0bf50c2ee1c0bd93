"""From pinned bytes to a task: tables, schema, target, split."""
