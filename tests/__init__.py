"""Tests of taximeter, a folder for each area."""
