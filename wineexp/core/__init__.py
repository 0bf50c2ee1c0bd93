"""What everything stands on: errors, typed configs, what makes a function a program."""
