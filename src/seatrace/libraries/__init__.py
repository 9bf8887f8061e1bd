"""Which libraries are observed, and where each of them is tapped. One row a library; no row imports its library."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from seatrace.core import guard
from seatrace.core.patch import Patches, after_import, forget


@dataclass(frozen=True, slots=True)
class Library:
    """A row of the registry."""

    name: str
    """The import name, which is also the name in settings."""
    distribution: str
    target: str
    """The module that gets patched once the program has imported it."""
    oldest: str
    """The oldest version that the tests run."""
    observes: str
    """What of it is observed, for the docs."""
    kind: Literal["client", "framework"] = "client"
    """A ``client`` calls models; a ``framework`` stands on clients, and has runs, tools and the like."""
    further: tuple[str, ...] = ()
    """More modules that are patched when the program imports them. What is missing there is reported, and the rest is
    observed all the same."""


REGISTRY: tuple[Library, ...] = (
    Library(
        "openai",
        "openai",
        "openai._base_client",
        "1.66.0",
        "chat, responses, completions, embeddings, images, audio, decisions, moderations, token counts",
    ),
    Library(
        "anthropic",
        "anthropic",
        "anthropic._base_client",
        "0.50.0",
        "messages, beta messages, stream helpers, tool runner, completions, token counts",
    ),
    Library(
        "haystack",
        "haystack-ai",
        "haystack.core.component.component",
        "2.19.0",
        "pipelines, agents, tools, retrievers, generators whose client is not observed",
        "framework",
        (
            "haystack.core.pipeline.pipeline",
            "haystack.core.pipeline.async_pipeline",
            "haystack.components.agents.agent",
            "haystack.components.agents.tool_calling",
            "haystack.tools.tool",
            "haystack.components.extractors.llm_metadata_extractor",
            "haystack.components.extractors.image.llm_document_content_extractor",
            "haystack.components.retrievers.multi_query_embedding_retriever",
            "haystack.components.retrievers.multi_query_text_retriever",
            "haystack.components.retrievers.multi_retriever",
        ),
    ),
    Library(
        "dspy",
        "dspy",
        "dspy.primitives.module",
        "3.0.0",
        "ReAct and other agents, programs, tools, retrievers, models whose client is not observed",
        "framework",
        (
            "dspy.adapters.types.tool",
            "dspy.clients.lm",
            "dspy.clients.execution",
            "dspy.retrievers.retrieve",
            "dspy.retrievers.embeddings",
            "dspy.utils.parallelizer",
        ),
    ),
    Library(
        "semantic_kernel",
        "semantic-kernel",
        "semantic_kernel.functions.kernel_function",
        "1.36.0",
        "agents, group chats, functions that a model calls, vector searches, models whose client is not observed",
        "framework",
        (
            "semantic_kernel.agents.autogen.autogen_conversable_agent",
            "semantic_kernel.agents.azure_ai.azure_ai_agent",
            "semantic_kernel.agents.bedrock.bedrock_agent",
            "semantic_kernel.agents.chat_completion.chat_completion_agent",
            "semantic_kernel.agents.copilot_studio.copilot_studio_agent",
            "semantic_kernel.agents.group_chat.agent_group_chat",
            "semantic_kernel.agents.open_ai.openai_assistant_agent",
            "semantic_kernel.agents.open_ai.openai_responses_agent",
            "semantic_kernel.connectors.ai.chat_completion_client_base",
            "semantic_kernel.data.vector",
            "semantic_kernel.utils.telemetry.agent_diagnostics.decorators",
            "semantic_kernel.utils.telemetry.model_diagnostics.decorators",
            "semantic_kernel.utils.telemetry.model_diagnostics.function_tracer",
        ),
    ),
)

State = Literal["observed", "not imported", "not installed", "target missing", "switched off"]


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What ``seatrace.status()`` says of one library."""

    name: str
    state: State
    version: str | None
    """The installed version."""
    detail: str = ""
    """With ``target missing``: what was looked for and not found. With ``observed``: what of it is not seen in this
    version."""

    def __str__(self) -> str:
        version = f" ({self.version})" if self.version else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.name}: {self.state}{version}{detail}"


_patches: dict[str, Patches] = {}
_missing: dict[str, str] = {}


def observe(names: Iterable[str], patched: Callable[[], None]) -> None:
    """Observes the libraries ``names``: at once those imported, the others when the program imports them; then calls
    ``patched()``."""
    for library in REGISTRY:
        if library.name in names and library.name not in _patches:
            _patches[library.name] = Patches()
            for target in (library.target, *library.further):
                after_import(target, _hook(library, target, patched))


def restore() -> None:
    """Undoes :func:`observe`: the same attribute objects stand where they stood."""
    for library in REGISTRY:
        patches = _patches.pop(library.name, None)
        if patches is not None:
            for target in (library.target, *library.further):
                forget(target)
            patches.undo()
    _missing.clear()


def status() -> list[LibraryStatus]:
    """One row a library of the registry, whether it is installed or not. Imports none of them."""
    return [_status(library) for library in REGISTRY]


def _hook(library: Library, target: str, patched: Callable[[], None]) -> Callable[[ModuleType], None]:
    def hook(module: ModuleType) -> None:
        patches = _patches.get(library.name)
        if patches is None:
            return
        lost = len(patches.lost)
        try:
            importlib.import_module(f"{__name__}.{library.name}").patch(module, patches)
        except Exception as error:  # an AttributeError, as a rule; a library too new for us is the user's to have
            if target != library.target:
                patches.lost.append(f"{target} has no {error}")
                _warn(library, patches.lost[lost:])
                return
            patches.undo()
            _missing[library.name] = str(error)
            guard.logger.warning(
                "seatrace does not observe %s %s: %s is missing there. The program is not affected.",
                library.name,
                _version(library.distribution),
                error,
            )
        else:
            _warn(library, patches.lost[lost:])
            patched()

    return hook


def _warn(library: Library, lost: Iterable[str]) -> None:
    for each in lost:
        version = _version(library.distribution)
        guard.logger.warning("seatrace observes %s %s, but %s.", library.name, version, each)


def _status(library: Library) -> LibraryStatus:
    version = _version(library.distribution)
    if version is None and library.name not in sys.modules and not installed(library.name):
        return LibraryStatus(library.name, "not installed", None)
    if library.name not in _patches:
        return LibraryStatus(library.name, "switched off", version)
    if library.name in _missing:
        return LibraryStatus(library.name, "target missing", version, _missing[library.name])
    if library.target not in sys.modules:
        return LibraryStatus(library.name, "not imported", version)
    if not _patches[library.name]:
        detail = "another import hook came first: import it earlier"
        return LibraryStatus(library.name, "target missing", version, detail)
    return LibraryStatus(library.name, "observed", version, "; ".join(_patches[library.name].lost))


def installed(name: str) -> bool:
    """Whether the package or module ``name`` can be imported; imports at most the packages around it."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
