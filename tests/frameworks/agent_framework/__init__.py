"""Tests of Microsoft's agent-framework."""
