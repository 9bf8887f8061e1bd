"""A program whose agents run in worker processes: ``python -m frameworks.processes FRAMEWORK START_METHOD``."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import seatrace
from frameworks.crew import CAPTAIN, MODEL, QUESTION, chart, tide

VOYAGES = 4
WORKERS = 2


def langgraph() -> str:
    from langchain.agents import create_agent
    from langchain_openai import ChatOpenAI

    agent = create_agent(ChatOpenAI(model=MODEL), [tide, chart], system_prompt=CAPTAIN, name="captain")
    return str(agent.invoke({"messages": [("user", QUESTION)]})["messages"][-1].content)


def agents() -> str:
    import agents

    agents.set_tracing_disabled(disabled=True)
    agents.set_default_openai_api("chat_completions")
    tools = [agents.function_tool(each) for each in (tide, chart)]
    agent = agents.Agent("captain", instructions=CAPTAIN, model=MODEL, tools=list(tools))
    return str(agents.Runner.run_sync(agent, QUESTION).final_output)


def pydantic_ai() -> str:
    from pydantic_ai import Agent

    agent = Agent(f"openai-chat:{MODEL}", name="captain", instructions=CAPTAIN, tools=[tide, chart])
    return agent.run_sync(QUESTION).output


FRAMEWORKS: dict[str, Callable[[], str]] = {each.__name__: each for each in (langgraph, agents, pydantic_ai)}


def voyage(framework: str) -> str:
    """One run, in a worker."""
    seatrace.instrument()  # of no effect in a worker that was forked
    return FRAMEWORKS[framework]()


def main(framework: str, method: str) -> None:
    """Runs some in workers, then one here: a process whose clients have connections and event loops is no longer one
    that can be forked, with seatrace or without."""
    seatrace.instrument()
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(method)) as pool:
        said = list(pool.map(voyage, [framework] * VOYAGES))
    sys.stdout.write("\n".join([*said, voyage(framework), ""]))


if __name__ == "__main__":
    main(*sys.argv[1:])
