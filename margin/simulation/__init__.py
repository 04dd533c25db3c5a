"""Filtered historical simulation: dates of the past as scenarios, tails, and tests of models."""
