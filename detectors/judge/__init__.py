"""Judging stated reasoning: what a judge is shown, what it is asked, what it said, and how often it is right."""
