"""Feedback in words on an agent's answers, and what is made of it: critics, refinements, preference pairs."""
