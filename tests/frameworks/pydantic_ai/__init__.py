"""Tests of pydantic-ai."""
