"""The captain as an agent of LangChain's, by the factory that the installed version has."""

from __future__ import annotations

from functools import wraps
from importlib.metadata import version
from threading import Barrier
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient

from frameworks.crew import CAPTAIN, MODEL, PILOT, QUESTION, chart, radio, tide

NEW = int(version("langchain").partition(".")[0]) >= 1
ASKED = {"messages": [("user", QUESTION)]}


def model(**options: Any) -> ChatOpenAI:
    """A model whose asynchronous client keeps no connection: langchain-openai's own serves all event loops, and fails
    on the second one."""
    client = DefaultAsyncHttpxClient(verify=False, headers={"Connection": "close"})
    return ChatOpenAI(model=MODEL, stream_usage=True, max_retries=0, http_async_client=client, **options)


def agent(name: str, prompt: str, tools: list[Any], **options: Any) -> Any:
    """An agent whose tools may fail."""
    if NEW:
        from langchain.agents import create_agent
        from langchain.agents.middleware import AgentMiddleware

        class CarryOn(AgentMiddleware):
            def wrap_tool_call(self, request: Any, handler: Any) -> Any:
                try:
                    return handler(request)
                except ConnectionError as error:
                    return _told(error, request)

            async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
                try:
                    return await handler(request)
                except ConnectionError as error:
                    return _told(error, request)

        return create_agent(model(), tools, system_prompt=prompt, name=name, middleware=[CarryOn()], **options)
    from langgraph.prebuilt import ToolNode, create_react_agent

    return create_react_agent(model(), ToolNode(tools, handle_tool_errors=True), prompt=prompt, name=name, **options)


def _told(error: Exception, request: Any) -> ToolMessage:
    return ToolMessage(str(error), tool_call_id=request.tool_call["id"], status="error")


def captain(**options: Any) -> Any:
    """With tools, a failing one, and a pilot of his own."""
    pilot = agent("pilot", PILOT, [])

    @tool("pilot")
    def ask(question: str) -> str:
        """Asks the pilot."""
        answer: str = pilot.invoke({"messages": [("user", question)]})["messages"][-1].content
        return answer

    return agent("captain", CAPTAIN, [*_pair(), tool(radio), ask], **options)


def _pair() -> list[Any]:
    """``tide`` and ``chart``, each of which waits for the other: they run at the same time."""
    both = Barrier(2, timeout=10)

    def meeting(function: Any) -> Any:
        @wraps(function)
        def meet(port: str) -> str:
            both.wait()
            return str(function(port))

        return tool(meet)

    return [meeting(tide), meeting(chart)]
