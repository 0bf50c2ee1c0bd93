"""What each program does, step by step: experiment, record, promotion, reproduction."""
