"""Agents, tools, workflows and retrievers of the program: decorators and blocks, and :func:`watch` for objects."""

from .decorate import agent as agent
from .decorate import retriever as retriever
from .decorate import tool as tool
from .decorate import workflow as workflow
from .objects import watch as watch
