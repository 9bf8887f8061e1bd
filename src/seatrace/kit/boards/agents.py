"""What agents do: runs, steps, loops, and the tools that they call."""

from __future__ import annotations

from seatrace.emit import catalogue as metric
from seatrace.emit import semconv as label
from seatrace.kit.conventions import FAILED, Conventions
from seatrace.kit.promql import buckets, series

from .panels import Board, Row, column, graph, heatmap, line, percentiles, row, table
from .view import AGENT, JOB, RANGE, TENANT, TOOL, View

_RUN = (label.AGENT_NAME,)
_TOOL = (label.TOOL_NAME,)


def agents(names: Conventions) -> Board:
    """Runs and tools."""
    view = View(names, (JOB, AGENT, TENANT, TOOL))
    return Board(
        "seatrace-agents",
        "Agents & tools",
        "Do agents get their work done, in how many steps, and which tools hold them up?",
        view,
        (_runs(view), _inside(view), _tools(view), _mcp(view)),
    )


def _runs(view: View) -> Row:
    runs = buckets(metric.AGENT_DURATION)
    failed = runs.counts().narrowed(FAILED)
    by = label.AGENT_NAME
    return row(
        "Runs",
        graph(
            "Runs by agent",
            line(view.rate(runs.counts(), by, label.OPERATION_NAME) * 60),
            unit="opm",
            description="Runs of agents and workflows per minute.",
            stacked=True,
        ),
        graph(
            "Failed runs by agent",
            line(view.failed(runs.counts(), by)),
            unit="percentunit",
            description="Share of runs that ended with an error.",
        ),
        graph(
            "Run duration by agent",
            *percentiles(view, runs, by, exemplar=True),
            unit="s",
            description="The dots are single runs: each leads to its trace.",
            traces=_RUN,
        ),
        graph(
            "Errors of runs by type",
            line(view.rate(failed, by, label.ERROR_TYPE) * 60),
            unit="opm",
            description="Failed runs per minute.",
            stacked=True,
        ),
        heatmap(
            "Run duration, all of it",
            view,
            runs,
            unit="s",
            description="The whole distribution.",
            exemplar=True,
            traces=_RUN,
        ),
        graph(
            "Cost of a run",
            line(view.average(buckets(metric.RUN_COST), by), exemplar=True),
            unit="currencyUSD",
            description="Mean of a run's own model calls, sub-agents' not. Percentiles: see Cost & budgets.",
            traces=_RUN,
        ),
        graph(
            "p95 duration of workflows",
            line(
                view.quantile(0.95, buckets(metric.WORKFLOW_DURATION_LEGACY), label.WORKFLOW_NAME_LEGACY),
                exemplar=True,
            ),
            unit="s",
            description="95 of 100 runs of a workflow take less.",
            traces=(label.OPERATION_NAME,),
        )
        if view.names.semconv == "legacy"
        else None,
        table(
            "Agents",
            {by: "Agent"},
            column("Runs", view.total(runs.counts(), by), "short"),
            column("Failed", view.failed(runs.counts(), by, over=RANGE), "percentunit"),
            column("p95 duration", view.quantile(0.95, runs, by, over=RANGE), "s"),
            column("Steps of a run", view.average(buckets(metric.RUN_STEPS), by, over=RANGE), "short"),
            column("Cost of a run", view.average(buckets(metric.RUN_COST), by, over=RANGE), "currencyUSD"),
            description="Of the time shown, most runs first.",
            traces=_RUN,
        ),
    )


def _inside(view: View) -> Row:
    by = label.AGENT_NAME
    return row(
        "Inside a run",
        graph(
            "Steps of a run",
            *percentiles(view, buckets(metric.RUN_STEPS), by),
            unit="none",
            description="Turns of the loop. A p95 at the limit: runs are cut off before they are done.",
        ),
        heatmap(
            "Steps of runs",
            view,
            buckets(metric.RUN_STEPS),
            unit="none",
            description="The whole distribution. A band that stays apart at the top is runs that go round in circles.",
        ),
        graph(
            "Runs seen looping",
            line(view.rate(series(metric.LOOPS), by, label.LOOP_REASON) * 60),
            unit="opm",
            description="Per minute, by how: the same tool with the same arguments again, two tools in turn, …",
        ),
        graph(
            "Model calls of a run",
            *percentiles(view, buckets(metric.AGENT_INFERENCE_CALLS), by),
            unit="none",
            description="That a run made itself, failed ones included.",
        ),
        graph(
            "Tool calls of a run",
            *percentiles(view, buckets(metric.AGENT_TOOL_CALLS), by),
            unit="none",
            description="That a run made itself, failed ones included.",
        ),
        graph(
            "Tokens of a run",
            line(view.average(buckets(metric.RUN_INPUT_TOKENS), by), "input"),
            line(view.average(buckets(metric.RUN_OUTPUT_TOKENS), by), "output"),
            unit="tokens",
            description="Mean of a run's own model calls, sub-agents' not.",
        ),
        graph(
            "Where the time of a run goes",
            line(view.average(buckets(metric.RUN_TIME), by, label.TIME_SPENT_ON)),
            unit="s",
            description="Mean. To models, to tools, to waiting for another attempt or a free agent, or to the program "
            "itself. Together they are the run's duration.",
            stacked=True,
        ),
        graph(
            "Saved by caches in a run",
            line(view.average(buckets(metric.RUN_SAVED_COST), by)),
            unit="currencyUSD",
            description="Mean of the runs in which a cache answered: what its own model calls would have cost.",
        ),
    )


def _tools(view: View) -> Row:
    tool = buckets(metric.TOOL_DURATION)
    by = label.TOOL_NAME
    return row(
        "Tools",
        graph(
            "Tool calls",
            line(view.rate(tool.counts(), by)),
            unit="ops",
            description="Executions per second.",
            stacked=True,
        ),
        graph(
            "Failed tool calls",
            line(view.failed(tool.counts(), by)),
            unit="percentunit",
            description="Share of executions that raised. An agent often tries again: each failure costs a model call.",
        ),
        graph(
            "p95 tool duration",
            line(view.quantile(0.95, tool, by), exemplar=True),
            unit="s",
            description="95 of 100 executions take less.",
            traces=_TOOL,
        ),
        table(
            "All tools",
            {by: "Tool", label.TOOL_TYPE: "Type", label.AGENT_NAME: "Agent"},
            column("Calls", view.total(tool.counts(), *_WHO), "short"),
            column("Failed", view.failed(tool.counts(), *_WHO, over=RANGE), "percentunit"),
            column("p50", view.quantile(0.5, tool, *_WHO, over=RANGE), "s"),
            column("p95", view.quantile(0.95, tool, *_WHO, over=RANGE), "s"),
            description="Of the time shown, most calls first.",
            traces=_TOOL,
        ),
    )


_WHO = (label.TOOL_NAME, label.TOOL_TYPE, label.AGENT_NAME)


def _mcp(view: View) -> Row:
    asked, answered = buckets(metric.MCP_CLIENT_DURATION), buckets(metric.MCP_SERVER_DURATION)
    of = (label.MCP_METHOD, label.TOOL_NAME, label.PROMPT_NAME)
    name = "{{mcp_method_name}} {{gen_ai_tool_name}}{{gen_ai_prompt_name}}"
    where = (label.NETWORK_TRANSPORT, label.NETWORK_PROTOCOL_NAME, label.MCP_PROTOCOL_VERSION)
    return row(
        "MCP",
        graph(
            "MCP requests",
            line(view.rate(asked.counts(), *of), f"sent: {name}"),
            line(view.rate(answered.counts(), *of), f"got: {name}"),
            unit="ops",
            description="Per second, as clients send and servers get them.",
        ),
        graph(
            "Failed MCP requests",
            line(view.rate(asked.counts().narrowed(FAILED), label.ERROR_TYPE, label.RPC_STATUS_CODE)),
            line(view.rate(answered.counts().narrowed(FAILED), label.ERROR_TYPE, label.RPC_STATUS_CODE)),
            unit="ops",
            description="Per second, by error. For a client every error is one, for a server only its own; "
            "tool_error is a tool that failed.",
        ),
        graph(
            "p95 duration of MCP requests",
            line(view.quantile(0.95, asked, *of), exemplar=True),
            line(view.quantile(0.95, answered, *of), exemplar=True),
            unit="s",
            description="95 of 100 requests take less.",
            traces=(label.MCP_METHOD, label.TOOL_NAME),
        ),
        graph(
            "p95 duration of MCP sessions",
            line(view.quantile(0.95, buckets(metric.MCP_CLIENT_SESSION_DURATION), *where)),
            line(view.quantile(0.95, buckets(metric.MCP_SERVER_SESSION_DURATION), *where)),
            unit="s",
            description="Sessions that are over. Many short ones: a client that connects anew for each call.",
        ),
    )
