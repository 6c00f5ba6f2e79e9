"""Surveys: what a released survey says, with error bars."""
