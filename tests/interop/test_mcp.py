"""The Model Context Protocol server, asked in-process by the protocol's own client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

import willitrun
from willitrun.interop import mcp as served

pytest.importorskip("mcp.server.mcpserver", reason="needs the extra 'mcp'")


def call(tool: str, **arguments: Any) -> Any:
    from mcp.client.client import Client

    async def ask() -> Any:
        async with Client(served.create_server()) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(ask())


def test_every_tool_is_listed_with_a_description_and_a_schema() -> None:
    from mcp.client.client import Client

    async def listed() -> Any:
        async with Client(served.create_server()) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert set(tools) == {tool.__name__ for tool in served.TOOLS}
    assert all(tool.description for tool in tools.values())
    assert tools["assess"].input_schema["required"] == ["model"]


def test_the_verdict_is_the_library_s_own() -> None:
    answer = call("assess", model="llama-3.1-8b", machine="rtx-4090", quantization="q4_k_m", explained=True)
    found = json.loads(answer.content[0].text)
    verdict = willitrun.assess("llama-3.1-8b", "rtx-4090", quantization="q4_k_m")
    assert found["tier"] == verdict.tier
    assert found["memory"]["total_bytes"]["best"] == verdict.memory.total_bytes.best
    assert found["explanation"] == willitrun.explain(verdict).text()
    assert "terms" not in found["memory"]


def test_several_cards_and_a_classifier() -> None:
    cards = call("assess", model="llama-3.3-70b", machine=["rtx-3090", "rtx-3090"], quantization="q4_k_m")
    assert len(json.loads(cards.content[0].text)["memory"]["per_device"]) == 2
    images = call("assess", model="resnet-50", machine="rtx-3060-12gb", batch_size=1)
    assert json.loads(images.content[0].text)["speed"]["bound"] == "launch"


def test_a_wrong_name_is_an_error_with_suggestions() -> None:
    answer = call("assess", model="llama-3.1-8bb", machine="rtx-4090")
    assert answer.is_error
    assert "llama-3.1-8b" in answer.content[0].text


def test_entries_and_logs() -> None:
    assert "KV cache" in call("define", term="kv-cache").content[0].text
    assert any(
        hit["kind"] == "accelerator" for hit in call("find", text="rtx 4090").structured_content["result"]
    )
    log = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB"
    assert call("diagnose", log=log).structured_content["result"]


def test_planning_and_questions_are_the_library_s_own() -> None:
    ranked = json.loads(call("scan", machine="rtx-3060-12gb", most=3).content[0].text)
    assert (
        ranked["ranked"]
        == willitrun.scan("rtx-3060-12gb").model_dump(mode="json", exclude_none=True)["ranked"][:3]
    )
    bought = json.loads(
        call(
            "recommend",
            model="qwen3-32b",
            targets={"decode_tokens_per_s": 20},
            quantizations=["q4_k_m"],
            owned="rtx-3090",
        )
        .content[0]
        .text
    )
    expected = willitrun.recommend(
        "qwen3-32b", targets={"decode_tokens_per_s": 20}, quantizations=["q4_k_m"], owned="rtx-3090"
    )
    assert bought["summary"] == expected.summary()
    told = json.loads(call("ask", question="can an RTX 4090 run llama 3.1 8b?").content[0].text)
    assert told["text"] == willitrun.ask("can an RTX 4090 run llama 3.1 8b?").text


def test_the_command_speaks_over_standard_streams() -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    answer = subprocess.run(
        [sys.executable, "-m", "willitrun", "mcp"],
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(answer.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "willitrun"
