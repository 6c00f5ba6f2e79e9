"""Surveys: figures of a released survey, with error bars."""
